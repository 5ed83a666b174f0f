// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// maxValue bounds what an error repeats of a value (bytes).
const maxValue = 80

// reserved are keys of the specification (SPEC.md, "Plugin configuration objects", and
// "ipMasq" of CONVENTIONS.md) that are not in Conf, or that libcni leaves in.
var reserved = [...]string{
	"cniVersion", "cniVersions", "name", "type", "capabilities", "ipam", "dns", "prevResult",
	"ipMasq", "disableCheck", "disableGC",
}

// reservedPrefix begins keys that runtimes add.
const reservedPrefix = "cni.dev/"

// checkKeys reports a key that nobody knows.
func checkKeys(stdin []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read the network configuration: %v", err), "")
	}
	known := slices.Collect(fields(reflect.TypeFor[Conf]()))
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if slices.Contains(known, key) || slices.Contains(reserved[:], key) || strings.HasPrefix(key, reservedPrefix) {
			continue
		}
		value := keys[key]
		if len(value) > maxValue {
			value = append(bytes.Clone(value[:maxValue]), "…"...)
		}
		return unsupported(key, string(value), "there is no such key; see slipway's docs/cni.md")
	}
	return nil
}

// fields returns the JSON names of the fields of a structure, but for embedded ones.
func fields(t reflect.Type) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" && name != "-" && !yield(name) {
				return
			}
		}
	}
}

// A stringList is a list of words, or one of them.
type stringList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *stringList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = stringList{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// secondsText is a time such as "10s".
type secondsText time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (s *secondsText) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("%s: want a time such as \"10s\"", b)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: want a time such as 10s", text)
	}
	*s = secondsText(d)
	return nil
}
