// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestDocs looks for each key in the manual.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Keys\n")
	table, _, _ = strings.Cut(table, "\n## ")
	n := 0
	for key := range fields(reflect.TypeFor[Conf]()) {
		if n++; !strings.Contains(table, "`"+key+"`") {
			t.Errorf("docs/cni.md says nothing of %q", key)
		}
	}
	if n < 20 {
		t.Errorf("there are %d keys: this proves nothing", n)
	}
}
