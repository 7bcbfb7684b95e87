int lb_placeholder; 
