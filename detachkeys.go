// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// defaultDetachKeys are those of Docker and Podman.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// parseDetachKeys reads a list of keys: letters and the like, or ctrl- and one of a-z
// or @[\]^_. An empty list is none.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		letter, ctrl := strings.CutPrefix(key, "ctrl-")
		if len(letter) != 1 || letter[0] < ' ' || letter[0] > '~' {
			return nil, fmt.Errorf("%w: --detach-keys %q: want keys such as %s", errUsage, s, defaultDetachKeys)
		}
		c := letter[0]
		if ctrl {
			if c = strings.ToUpper(letter)[0]; c < '@' || c > '_' {
				return nil, fmt.Errorf("%w: --detach-keys %q: there is no ctrl-%s", errUsage, s, letter)
			}
			c -= '@'
		}
		keys = append(keys, c)
	}
	return keys, nil
}

// A keyReader passes on what is typed until the detach keys are, one after the
// other, which it takes out. It then says that the input is at its end.
type keyReader struct {
	r        io.Reader
	keys     []byte
	matched  int    // how many of the keys were typed, and are held back
	detached bool   // all of them were
	ready    []byte // what is to be passed on
}

// Read implements io.Reader.
func (k *keyReader) Read(b []byte) (int, error) {
	for len(k.ready) == 0 {
		if k.detached {
			return 0, io.EOF
		}
		n, err := k.r.Read(b)
		k.take(b[:n])
		if err != nil {
			if len(k.ready) == 0 {
				return 0, err
			}
			break
		}
	}
	n := copy(b, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

// take looks at what was typed.
func (k *keyReader) take(typed []byte) {
	for _, c := range typed {
		if len(k.keys) > 0 && c == k.keys[k.matched] {
			if k.matched++; k.matched == len(k.keys) {
				k.detached = true
				return
			}
			continue
		}
		// The keys held back may hold the beginning of another attempt.
		held := append(bytes.Clone(k.keys[:k.matched]), c)
		k.matched = 0
		for len(held) > 0 && !bytes.HasPrefix(k.keys, held) {
			k.ready = append(k.ready, held[0])
			held = held[1:]
		}
		k.matched = len(held)
	}
}
