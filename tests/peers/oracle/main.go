package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"
)

// row is what is known of one trace id.
type row struct {
	seen    bool
	emitted int
	notes   map[string]struct{}
}

// sink is the consumer after the processor.
type sink struct {
	mu    sync.Mutex
	rows  map[pcommon.TraceID]*row
	ts    bool
	total int
}

func (*sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) get(id pcommon.TraceID) *row {
	r := s.rows[id]
	if r == nil {
		r = &row{notes: map[string]struct{}{}}
		s.rows[id] = r
	}
	return r
}

func (s *sink) ConsumeTraces(_ context.Context, td ptrace.Traces) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, sp := range ss.Spans().All() {
				r := s.get(sp.TraceID())
				r.emitted++
				s.total++
				for _, k := range []string{"policy", "composite_policy", "cached_decision"} {
					if v, ok := ss.Scope().Attributes().Get("tailsampling." + k); ok {
						r.notes[k+"="+v.AsString()] = struct{}{}
					}
				}
				if s.ts {
					r.notes["tracestate="+quote(sp.TraceState().AsRaw())] = struct{}{}
				}
			}
		}
	}
	return nil
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

func die(f string, a ...any) {
	fmt.Fprintf(os.Stderr, "oracle: "+f+"\n", a...)
	os.Exit(1)
}

// loadConfig reads YAML. The settings may stand alone, or under
// tail_sampling, or under processors: tail_sampling.
func loadConfig(path string) *confmap.Conf {
	b, err := os.ReadFile(path)
	if err != nil {
		die("%v", err)
	}
	var m map[string]any
	if err := yaml.Unmarshal(b, &m); err != nil {
		die("config: %v", err)
	}
	if p, ok := m["processors"].(map[string]any); ok {
		m = p
	}
	for k, v := range m {
		if k == "tail_sampling" || strings.HasPrefix(k, "tail_sampling/") {
			if v == nil {
				m = map[string]any{}
				break
			}
			if mm, ok := v.(map[string]any); ok {
				m = mm
			}
			break
		}
	}
	return confmap.NewFromStringMap(m)
}

func uvarint(b []byte) (uint64, int) { return binary.Uvarint(b) }

// loadTraces accepts JSON lines, one protobuf message, or a run of
// varint-length-delimited protobuf messages.
func loadTraces(path string) []ptrace.Traces {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(os.Stdin)
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		die("%v", err)
	}
	// Delimited messages first: the length 123 reads as the brace that opens a
	// JSON document, while no JSON document is a run of whole messages.
	if out, ok := loadDelimited(b); ok {
		return out
	}
	t := bytes.TrimLeft(b, " \t\r\n\xef\xbb\xbf")
	if len(t) > 0 && t[0] == '{' {
		return loadJSON(t)
	}
	u := ptrace.ProtoUnmarshaler{}
	td, err := u.UnmarshalTraces(b)
	if err != nil {
		die("traces: neither JSON nor protobuf: %v", err)
	}
	return []ptrace.Traces{td}
}

func loadJSON(b []byte) []ptrace.Traces {
	var out []ptrace.Traces
	u := ptrace.JSONUnmarshaler{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(make([]byte, 1<<20), 1<<30)
	n := 0
	for sc.Scan() {
		n++
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		td, err := u.UnmarshalTraces(line)
		if err != nil {
			if n == 1 { // maybe one pretty-printed document
				if td, err2 := u.UnmarshalTraces(b); err2 == nil {
					return []ptrace.Traces{td}
				}
			}
			die("traces line %d: %v", n, err)
		}
		out = append(out, td)
	}
	if err := sc.Err(); err != nil {
		die("traces: %v", err)
	}
	return out
}

func loadDelimited(b []byte) ([]ptrace.Traces, bool) {
	var out []ptrace.Traces
	u := ptrace.ProtoUnmarshaler{}
	for len(b) > 0 {
		n, k := uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, false
		}
		td, err := u.UnmarshalTraces(b[k : k+int(n)])
		if err != nil {
			return nil, false
		}
		out = append(out, td)
		b = b[k+int(n):]
	}
	return out, true
}

type gates []string

func (g *gates) String() string     { return strings.Join(*g, ",") }
func (g *gates) Set(s string) error { *g = append(*g, strings.Split(s, ",")...); return nil }

func main() {
	var gs gates
	cfgPath := flag.String("config", "", "YAML file with the tail_sampling settings")
	in := flag.String("traces", "-", "OTLP traces: JSON lines, protobuf, or length-delimited protobuf")
	gap := flag.Duration("gap", 0, "pause between requests")
	wait := flag.Duration("wait", 0, "how long to let the decision timer run after the last request; 0: shut down at once, which decides all that is pending; negative: decision_wait plus 2.5 s")
	decisionWait := flag.Duration("decision-wait", 0, "override decision_wait")
	record := flag.Bool("record-policy", true, "turn on processor.tailsamplingprocessor.recordpolicy")
	ts := flag.Bool("tracestate", false, "print the tracestate values emitted")
	metrics := flag.Bool("metrics", false, "print internal metrics after the decisions")
	validate := flag.Bool("validate", false, "load the config, start, stop, print ok or the error")
	toProto := flag.String("to-proto", "", "write the traces to this file as length-delimited protobuf and stop")
	verbose := flag.Bool("v", false, "log the processor's messages on standard error")
	idFlag := flag.String("name", "", "component name after tail_sampling/")
	flag.Var(&gs, "gates", "feature gates, comma separated, each with an optional + or -")
	flag.Parse()

	if *toProto != "" {
		writeProto(*toProto, loadTraces(*in))
		return
	}
	reg := featuregate.GlobalRegistry()
	if *record {
		gs = append(gates{"processor.tailsamplingprocessor.recordpolicy"}, gs...)
	}
	for _, g := range gs {
		on := !strings.HasPrefix(g, "-")
		g = strings.TrimLeft(g, "+-")
		if err := reg.Set(g, on); err != nil {
			die("gate: %v", err)
		}
	}

	f := tailsamplingprocessor.NewFactory()
	cfg := f.CreateDefaultConfig().(*tailsamplingprocessor.Config)
	if err := loadConfig(*cfgPath).Unmarshal(cfg); err != nil {
		die("config: %v", err)
	}
	if *decisionWait > 0 {
		cfg.DecisionWait = *decisionWait
	}
	if err := confmap.Validate(cfg); err != nil {
		die("validate: %v", err)
	}

	logger := zap.NewNop()
	if *verbose {
		zc := zap.NewDevelopmentConfig()
		zc.Level = zap.NewAtomicLevelAt(zapcore.DebugLevel)
		logger, _ = zc.Build()
	} else {
		zc := zap.NewProductionConfig()
		zc.Level = zap.NewAtomicLevelAt(zapcore.ErrorLevel)
		zc.Encoding = "console"
		zc.DisableStacktrace = true
		logger, _ = zc.Build()
	}
	rd := sdkmetric.NewManualReader()
	mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(rd))
	set := processor.Settings{
		ID: component.NewIDWithName(f.Type(), *idFlag),
		TelemetrySettings: component.TelemetrySettings{
			Logger:         logger,
			TracerProvider: tracenoop.NewTracerProvider(),
			MeterProvider:  mp,
			Resource:       pcommon.NewResource(),
		},
		BuildInfo: component.NewDefaultBuildInfo(),
	}
	out := &sink{rows: map[pcommon.TraceID]*row{}, ts: *ts}
	ctx := context.Background()
	p, err := f.CreateTraces(ctx, set, cfg, out)
	if err != nil {
		die("create: %v", err)
	}
	if err := p.Start(ctx, host{}); err != nil {
		die("start: %v", err)
	}
	if *validate {
		if err := p.Shutdown(ctx); err != nil {
			die("shutdown: %v", err)
		}
		fmt.Println("ok")
		return
	}
	reqs := loadTraces(*in)
	for i, td := range reqs {
		if i > 0 && *gap > 0 {
			time.Sleep(*gap)
		}
		out.mu.Lock()
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, sp := range ss.Spans().All() {
					out.get(sp.TraceID()).seen = true
				}
			}
		}
		out.mu.Unlock()
		if err := p.ConsumeTraces(ctx, td); err != nil {
			die("request %d: %v", i, err)
		}
	}
	if *wait < 0 {
		*wait = cfg.DecisionWait + 2500*time.Millisecond
	}
	time.Sleep(*wait)
	if err := p.Shutdown(ctx); err != nil {
		die("shutdown: %v", err)
	}
	report(out)
	if *metrics {
		reportMetrics(ctx, rd)
	}
}

func report(out *sink) {
	out.mu.Lock()
	defer out.mu.Unlock()
	ids := make([]pcommon.TraceID, 0, len(out.rows))
	for id := range out.rows {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return bytes.Compare(ids[i][:], ids[j][:]) < 0 })
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	for _, id := range ids {
		r := out.rows[id]
		d := "not"
		if r.emitted > 0 {
			d = "sampled"
		}
		notes := make([]string, 0, len(r.notes))
		for n := range r.notes {
			notes = append(notes, n)
		}
		sort.Strings(notes)
		line := fmt.Sprintf("%s %s %d", hex.EncodeToString(id[:]), d, r.emitted)
		if len(notes) > 0 {
			line += " " + strings.Join(notes, " ")
		}
		fmt.Fprintln(w, line)
	}
}

func writeProto(path string, reqs []ptrace.Traces) {
	var buf []byte
	m := ptrace.ProtoMarshaler{}
	for _, td := range reqs {
		b, err := m.MarshalTraces(td)
		if err != nil {
			die("%v", err)
		}
		buf = binary.AppendUvarint(buf, uint64(len(b)))
		buf = append(buf, b...)
	}
	if err := os.WriteFile(path, buf, 0o644); err != nil {
		die("%v", err)
	}
}

func labels(s attribute.Set) string {
	var p []string
	for _, kv := range s.ToSlice() {
		p = append(p, string(kv.Key)+"="+kv.Value.Emit())
	}
	return "{" + strings.Join(p, ",") + "}"
}

func reportMetrics(ctx context.Context, rd *sdkmetric.ManualReader) {
	var rm metricdata.ResourceMetrics
	if err := rd.Collect(ctx, &rm); err != nil {
		die("metrics: %v", err)
	}
	var lines []string
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("# %s%s %d", m.Name, labels(p.Attributes), p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("# %s%s %d", m.Name, labels(p.Attributes), p.Value))
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					lines = append(lines, fmt.Sprintf("# %s%s count=%d sum=%d bounds=%v", m.Name, labels(p.Attributes), p.Count, p.Sum, p.Bounds))
				}
			}
		}
	}
	sort.Strings(lines)
	for _, l := range lines {
		fmt.Println(l)
	}
}
