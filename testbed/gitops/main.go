// Command health says what kstatus and Flux make of objects, by their own code.
//
// Its argument is a file with the healthCheckExprs of a Kustomization, as JSON. Each line of its input is an object;
// the line that answers it has two words: what kstatus says of it, and what Flux says by the expressions of its kind.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// Larger than any object that an API server takes.
const longestLine = 4 << 20

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is needed, the file with the expressions; there are %d", len(args))
	}
	evaluators, err := evaluatorsOf(args[0])
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		computed, err := status.Compute(object)
		if err != nil {
			return err
		}
		evaluated := status.UnknownStatus
		if evaluator := evaluators[object.GetAPIVersion()+" "+object.GetKind()]; evaluator != nil {
			result, err := evaluator.Evaluate(context.Background(), object)
			if err != nil {
				return err
			}
			evaluated = status.Status(result.Status)
		}
		fmt.Println(computed.Status, evaluated)
	}
	return lines.Err()
}

func evaluatorsOf(path string) (map[string]*cel.StatusEvaluator, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var checks []kustomize.CustomHealthCheck
	if err := json.Unmarshal(text, &checks); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	evaluators := map[string]*cel.StatusEvaluator{}
	for _, check := range checks {
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", check.Kind, err)
		}
		evaluators[check.APIVersion+" "+check.Kind] = evaluator
	}
	return evaluators, nil
}
