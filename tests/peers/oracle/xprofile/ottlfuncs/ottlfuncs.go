// Package ottlfuncs stands in for the package of converters for
// profiles. It adds none.
package ottlfuncs

import "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"

// WithProfileConverters returns m as it is.
func WithProfileConverters[K any](m map[string]ottl.Factory[K]) map[string]ottl.Factory[K] {
	return m
}
