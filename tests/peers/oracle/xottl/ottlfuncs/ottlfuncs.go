// Package ottlfuncs stands in for the package of experimental OTTL converters. It
// adds none: a condition that calls an experimental converter does not parse
// here.
package ottlfuncs

import "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"

// WithExperimentalConverters returns m as it is.
func WithExperimentalConverters[K any](m map[string]ottl.Factory[K]) map[string]ottl.Factory[K] {
	return m
}
