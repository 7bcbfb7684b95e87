// Package ottlprofile stands in for the OTTL context for profiles. Tail
// sampling never uses it; it is here so that the shared filter package links.
package ottlprofile

import (
	"errors"

	"go.opentelemetry.io/collector/component"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"
)

// ContextName is the name of the context.
const ContextName = "profile"

// TransformContext holds nothing.
type TransformContext struct{}

// NewParser always fails.
func NewParser(map[string]ottl.Factory[*TransformContext], component.TelemetrySettings, ...ottl.Option[*TransformContext]) (ottl.Parser[*TransformContext], error) {
	return ottl.Parser[*TransformContext]{}, errors.New("profiles are not supported here")
}

// EnablePathContextNames does nothing.
func EnablePathContextNames() ottl.Option[*TransformContext] {
	return func(*ottl.Parser[*TransformContext]) {}
}

// WithConditionSequenceErrorMode does nothing.
func WithConditionSequenceErrorMode(ottl.ErrorMode) ottl.ConditionSequenceOption[*TransformContext] {
	return func(*ottl.ConditionSequence[*TransformContext]) {}
}

// NewConditionSequence returns an empty sequence.
func NewConditionSequence([]*ottl.Condition[*TransformContext], component.TelemetrySettings, ...ottl.ConditionSequenceOption[*TransformContext]) ottl.ConditionSequence[*TransformContext] {
	return ottl.ConditionSequence[*TransformContext]{}
}
