// Sends traces with the official OpenTelemetry SDK for Go: each span to Tailrace by the protocol asked for, and to a
// reference backend by OTLP/gRPC, so that what arrived can be held against what the SDK meant.
//
//	sdk_go -protocol grpc|http/protobuf -endpoint HOST:PORT[,HOST:PORT] -reference HOST:PORT -traces N
//
// Ends with 0 and a line "sent N spans" when every export succeeded.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var (
	protocol  = flag.String("protocol", "grpc", "grpc or http/protobuf")
	endpoint  = flag.String("endpoint", "", "host:port of Tailrace, or several, divided by commas")
	reference = flag.String("reference", "", "host:port of the reference backend (gRPC)")
	traces    = flag.Int("traces", 20, "how many")
	gzip      = flag.Bool("gzip", false, "compress")
	services  = []string{"checkout", "payment", "bücher-服务"}
)

// counted counts what the exporter below it reports: the SDK itself only hands errors to a handler.
type counted struct {
	sdk.SpanExporter
	mutex  *sync.Mutex
	sent   *int
	failed *[]error
}

func (c counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if err != nil {
		*c.failed = append(*c.failed, err)
	} else {
		*c.sent += len(spans)
	}
	return err
}

func exporterTo(protocol, address string) (sdk.SpanExporter, error) {
	ctx := context.Background()
	timeout := 60 * time.Second
	switch protocol {
	case "grpc":
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(address), otlptracegrpc.WithInsecure(), otlptracegrpc.WithTimeout(timeout)}
		if *gzip {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptrace.New(ctx, otlptracegrpc.NewClient(options...))
	case "http/protobuf":
		options := []otlptracehttp.Option{otlptracehttp.WithEndpoint(address), otlptracehttp.WithInsecure(), otlptracehttp.WithTimeout(timeout)}
		if *gzip {
			options = append(options, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		return otlptrace.New(ctx, otlptracehttp.NewClient(options...))
	}
	return nil, fmt.Errorf("no protocol %s", protocol)
}

func providerOf(index int, counter counted) (*sdk.TracerProvider, error) {
	endpoints := strings.Split(*endpoint, ",")
	through, err := exporterTo(*protocol, endpoints[index%len(endpoints)])
	if err != nil {
		return nil, err
	}
	beside, err := exporterTo("grpc", *reference)
	if err != nil {
		return nil, err
	}
	counter.SpanExporter = through
	batches := []sdk.BatchSpanProcessorOption{sdk.WithMaxExportBatchSize(7), sdk.WithBatchTimeout(50 * time.Millisecond), sdk.WithMaxQueueSize(100000)}
	limits := sdk.NewSpanLimits()
	limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 12, 4, 4
	return sdk.NewTracerProvider(
		sdk.WithBatcher(counter, batches...),
		sdk.WithBatcher(beside, batches...),
		sdk.WithRawSpanLimits(limits),
		sdk.WithResource(resource.NewWithAttributes("https://opentelemetry.io/schemas/1.21.0",
			attribute.String("service.name", services[index]), attribute.Int("host.cpus", index+1),
			attribute.StringSlice("zones", []string{"a", "b"}), attribute.Float64("ratio", 0.5)))), nil
}

func callerOf(number int) trace.SpanContext {
	var traceID trace.TraceID
	var spanID trace.SpanID
	_, _ = rand.Read(traceID[:])
	_, _ = rand.Read(spanID[:])
	state, err := trace.ParseTraceState(fmt.Sprintf("vendor=v%d,rojo=00f067aa0ba902b7", number))
	if err != nil {
		panic(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true})
}

func oneTrace(providers []*sdk.TracerProvider, number int) int {
	tracer := func(index int) trace.Tracer {
		return providers[index].Tracer("shop.lib", trace.WithInstrumentationVersion("1.4.2"),
			trace.WithSchemaURL("https://opentelemetry.io/schemas/1.20.0"), trace.WithInstrumentationAttributes(attribute.String("scope.key", "scope value")))
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), callerOf(number))
	ctx, root := tracer(0).Start(ctx, fmt.Sprintf("GET /cart/%d", number), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("text", "naïve ✓ 漢字 🚀"), attribute.String("empty", ""), attribute.Bool("no", false), attribute.Int64("int", -1<<63),
		attribute.Int64("big", 1<<63-1), attribute.Float64("tiny", 5e-324), attribute.StringSlice("texts", []string{"a", "", "ß"}),
		attribute.Int64Slice("ints", []int64{1, -1, 0}), attribute.BoolSlice("flags", []bool{true, false}), attribute.Int("number", number)))
	count := 1

	for service := range services {
		for _, kind := range []trace.SpanKind{trace.SpanKindClient, trace.SpanKindProducer, trace.SpanKindConsumer, trace.SpanKindInternal} {
			_, child := tracer(service).Start(ctx, fmt.Sprintf("%s %s", services[service], kind), trace.WithSpanKind(kind),
				trace.WithTimestamp(time.Now().Add(-3*time.Second)),
				trace.WithLinks(trace.Link{SpanContext: root.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("why", "parent")}}))
			child.AddEvent("cache miss", trace.WithAttributes(attribute.Int("tries", 3), attribute.Bool("ok", false)))
			for event := 0; event < number%7; event++ {
				child.AddEvent(fmt.Sprintf("event %d", event))
			}
			for key := 0; key < 2+18*(1-min(number%3, 1)); key++ {
				child.SetAttributes(attribute.String(fmt.Sprintf("key.%d", key), strings.Repeat("v", key)))
			}
			if number%4 == 0 && kind == trace.SpanKindClient {
				child.RecordError(fmt.Errorf("no money: %d €", number))
				child.SetStatus(codes.Error, "karte abgelehnt – 拒否")
			} else if number%2 == 1 {
				child.SetStatus(codes.Ok, "")
			}
			child.End()
			count++
		}
	}
	root.End()
	return count
}

func run() error {
	var mutex sync.Mutex
	var failed []error
	sent, spans := 0, 0
	providers := make([]*sdk.TracerProvider, len(services))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mutex.Lock()
		defer mutex.Unlock()
		failed = append(failed, err)
	}))
	for index := range services {
		provider, err := providerOf(index, counted{mutex: &mutex, sent: &sent, failed: &failed})
		if err != nil {
			return err
		}
		providers[index] = provider
	}
	for number := 0; number < *traces; number++ {
		spans += oneTrace(providers, number)
	}
	for _, provider := range providers {
		if err := provider.Shutdown(context.Background()); err != nil {
			return err
		}
	}
	fmt.Printf("sent %d spans\n", sent)
	if sent != spans {
		failed = append(failed, fmt.Errorf("%d of %d spans were acknowledged", sent, spans))
	}
	return errors.Join(failed...)
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
