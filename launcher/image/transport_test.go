// SPDX-License-Identifier: Apache-2.0

package image

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestPlain asks registries without encryption: those on this machine are, others only
// if that is asked for, even where the library would. Nothing is connected to.
func TestPlain(t *testing.T) {
	for _, tt := range []struct {
		host     string
		insecure bool
		want     bool
	}{
		{"localhost", false, true},
		{"localhost:5000", false, true},
		{"registry.localhost:5000", false, true},
		{"127.0.0.1:5000", false, true},
		{"127.3.2.1", false, true},
		{"[::1]:5000", false, true},
		{"[::ffff:127.0.0.1]:5000", false, true},
		{"10.0.0.1:5000", false, false},
		{"192.168.1.2", false, false},
		{"[fd00::1]:5000", false, false},
		{"registry.local:5000", false, false},
		{"notlocalhost:5000", false, false},
		{"localhost.example.com", false, false},
		{"127.0.0.1.example.com", false, false},
		{"10.0.0.1:5000", true, true},
	} {
		tr, ok := newTransport(tt.host, tt.insecure).(*resuming)
		if !ok {
			t.Fatal("not the transport that is tested")
		}
		asked := false
		tr.base = roundTrip(func(*http.Request) (*http.Response, error) {
			asked = true
			return &http.Response{StatusCode: http.StatusNoContent, Body: io.NopCloser(strings.NewReader(""))}, nil
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tt.host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if asked != tt.want || (err == nil) != tt.want {
			t.Errorf("%s, insecure %v: asked %v (%v), want %v", tt.host, tt.insecure, asked, err, tt.want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
