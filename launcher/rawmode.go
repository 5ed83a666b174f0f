// SPDX-License-Identifier: Apache-2.0

package launcher

import "os"

// WindowSize returns the size of the terminal f in characters, 0 where f is none.
func WindowSize(f *os.File) (rows, columns uint16) { return windowSize(f) }

// Raw makes the terminal f pass every byte on as it is typed, until the function it
// returns is called. If f is no terminal it does nothing.
func Raw(f *os.File) (restore func(), err error) {
	if !isTerminal(f) {
		return func() {}, nil
	}
	t := &terminal{tty: f}
	if err := t.raw(); err != nil {
		return nil, err
	}
	return t.restore, nil
}
