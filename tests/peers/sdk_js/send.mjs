// Sends traces with the official OpenTelemetry SDK for JavaScript: each span to Tailrace by the protocol asked for, and to a
// reference backend by OTLP/gRPC, so that what arrived can be held against what the SDK meant.
//
//   node send.mjs --protocol grpc|http/protobuf|http/json --endpoint HOST:PORT[,HOST:PORT] --reference HOST:PORT --traces N
//
// Ends with 0 and a line "sent N spans" when every export succeeded.
import { parseArgs } from "node:util";
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, createTraceState, diag, DiagLogLevel, trace } from "@opentelemetry/api";
import { ExportResultCode } from "@opentelemetry/core";
import { OTLPTraceExporter as GrpcExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const { values: options } = parseArgs({
  options: {
    protocol: { type: "string" },
    endpoint: { type: "string" },
    reference: { type: "string" },
    traces: { type: "string", default: "20" },
    gzip: { type: "boolean", default: false },
  },
});
const failures = [];
let sent = 0;

diag.setLogger({ error: (...words) => failures.push(words.join(" ")), warn() {}, info() {}, debug() {}, verbose() {} }, DiagLogLevel.ERROR);

function exporterTo(protocol, address) {
  const common = { timeoutMillis: 60000, compression: options.gzip ? "gzip" : "none" };
  switch (protocol) {
    case "grpc":
      return new GrpcExporter({ ...common, url: `http://${address}` });
    case "http/protobuf":
      return new ProtoExporter({ ...common, url: `http://${address}/v1/traces` });
    case "http/json":
      return new JsonExporter({ ...common, url: `http://${address}/v1/traces` });
    default:
      throw new Error(`no protocol ${protocol}`);
  }
}

// Counts what the exporter below it reports: the SDK itself only logs failures.
class Counted {
  constructor(exporter) {
    this.exporter = exporter;
  }
  export(spans, done) {
    this.exporter.export(spans, (result) => {
      if (result.code === ExportResultCode.SUCCESS) sent += spans.length;
      else failures.push(`export failed: ${result.error}`);
      done(result);
    });
  }
  shutdown() {
    return this.exporter.shutdown();
  }
  forceFlush() {
    return this.exporter.forceFlush?.() ?? Promise.resolve();
  }
}

const batches = { maxExportBatchSize: 7, scheduledDelayMillis: 50, exportTimeoutMillis: 60000, maxQueueSize: 100000 };
const endpoints = options.endpoint.split(",");
const services = ["checkout", "payment", "bücher-服务"];
const providers = services.map(
  (service, index) =>
    new BasicTracerProvider({
      resource: resourceFromAttributes({ "service.name": service, "host.cpus": index + 1, zones: ["a", "b"], ratio: 0.5 }),
      spanLimits: { attributeCountLimit: 12, eventCountLimit: 4, linkCountLimit: 4 },
      spanProcessors: [
        new BatchSpanProcessor(new Counted(exporterTo(options.protocol, endpoints[index % endpoints.length])), batches),
        new BatchSpanProcessor(exporterTo("grpc", options.reference), batches),
      ],
    }),
);

function tracer(index) {
  return providers[index].getTracer("shop.lib", "1.4.2", { schemaUrl: "https://opentelemetry.io/schemas/1.20.0" });
}

function oneTrace(number) {
  const state = createTraceState(`vendor=v${number},rojo=00f067aa0ba902b7`);
  const hex = (length) => Array.from({ length }, () => "0123456789abcdef"[Math.floor(Math.random() * 16)]).join("");
  const caller = { traceId: hex(31) + "1", spanId: hex(15) + "1", traceFlags: TraceFlags.SAMPLED, isRemote: true, traceState: state };
  const root = tracer(0).startSpan(
    `GET /cart/${number}`,
    {
      kind: SpanKind.SERVER,
      attributes: {
        text: "naïve ✓ 漢字 🚀", empty: "", yes: true, no: false, int: -(2 ** 40), largest: Number.MAX_SAFE_INTEGER, zero: 0, float: 0.1,
        tiny: 5e-324, texts: ["a", "", "ß"], numbers: [1, -1, 2.5], number,
      },
    },
    trace.setSpanContext(ROOT_CONTEXT, caller),
  );
  const parent = trace.setSpan(ROOT_CONTEXT, root);

  for (let service = 0; service < services.length; service++) {
    for (const kind of [SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.INTERNAL]) {
      const now = Date.now();
      const child = tracer(service).startSpan(
        `${services[service]} ${kind}`,
        {
          kind,
          startTime: [Math.floor(now / 1000) - 3, 123456789 + number],
          links: [{ context: root.spanContext(), attributes: { why: "parent", n: number } }],
        },
        parent,
      );

      child.addEvent("cache miss", { key: `item-${number}`, tries: 3, ok: false });
      for (let event = 0; event < number % 7; event++) child.addEvent(`event ${event}`);
      for (let key = 0; key < (number % 3 === 0 ? 20 : 2); key++) child.setAttribute(`key.${key}`, "v".repeat(key));
      if (number % 4 === 0 && kind === SpanKind.CLIENT) {
        child.recordException(new Error(`no money: ${number} €`));
        child.setStatus({ code: SpanStatusCode.ERROR, message: "karte abgelehnt – 拒否" });
      } else if (number % 2 === 1) {
        child.setStatus({ code: SpanStatusCode.OK });
      }
      child.end();
    }
  }
  root.end();
  return 1 + services.length * 4;
}

let spans = 0;
for (let number = 0; number < Number(options.traces); number++) spans += oneTrace(number);
for (const provider of providers) {
  await provider.forceFlush();
  await provider.shutdown();
}
if (sent !== spans) failures.push(`${sent} of ${spans} spans were acknowledged`);
for (const failure of failures) console.error(failure);
console.log(`sent ${sent} spans`);
process.exitCode = failures.length > 0 ? 1 : 0;
