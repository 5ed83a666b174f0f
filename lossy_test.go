// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

func TestLogDoesNotWaitForItsReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	f := netFlags{logLevel: "info"}
	log, err := f.logger(w)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 10000 // many times what a pipe holds
	for i := range lines {
		log.Info("line", "n", i)
	}
	w.Close()
	got := 0
	for s := bufio.NewScanner(r); s.Scan(); got++ {
		if !strings.Contains(s.Text(), "msg=line") {
			t.Fatalf("half a line: %q", s.Text())
		}
	}
	if got == 0 || got == lines {
		t.Errorf("%d of %d lines are there, want some", got, lines)
	}
}
