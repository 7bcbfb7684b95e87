int sampler_placeholder;
