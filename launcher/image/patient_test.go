// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A silent body says something and then nothing until its request ends.
type silentBody struct {
	first io.Reader
	ctx   context.Context
}

func (b *silentBody) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *silentBody) Close() error { return nil }

// TestPatient asks registries that are silent: at once, or in the middle.
func TestPatient(t *testing.T) {
	get := func(idle time.Duration, answer roundTrip) (string, error) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&patient{answer, idle}).RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	silent := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if _, err := get(time.Millisecond, silent); !errors.Is(err, errIdle) {
		t.Errorf("a registry that says nothing: %v", err)
	}
	half := func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: &silentBody{strings.NewReader("half"), r.Context()}}, nil
	}
	if got, err := get(time.Millisecond, half); !errors.Is(err, errIdle) || got != "half" {
		t.Errorf("a registry that stops: %q, %v", got, err)
	}
	whole := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("whole"))}, nil
	}
	if got, err := get(time.Hour, whole); err != nil || got != "whole" {
		t.Errorf("one that answers: %q, %v", got, err)
	}
}
