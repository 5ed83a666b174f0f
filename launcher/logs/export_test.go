// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"os"
	"time"
)

// ParseEntry and AppendEntry are what the fuzzer feeds.
var (
	ParseEntry  = parseEntry
	AppendEntry = appendEntry
)

// SetNow gives w another clock.
func (w *Writer) SetNow(now func() time.Time) { w.now = now }

// SetFile has w write to f, such as to a device that is full.
func (w *Writer) SetFile(f *os.File) *os.File {
	old := w.f
	w.f = f
	return old
}
