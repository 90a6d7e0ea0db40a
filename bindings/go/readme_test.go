// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"os"
	"strings"
	"testing"
)

// The example that users copy first is the one that is compiled.
func TestTheReadmeHasTheExampleAsItIs(t *testing.T) {
	readme := string(got(os.ReadFile("README.md"))(t))
	example := string(got(os.ReadFile("examples/decode/main.go"))(t))
	_, rest, found := strings.Cut(readme, "```go\n")
	block, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed || block != example {
		t.Error("the Go block of README.md is not examples/decode/main.go")
	}
}
