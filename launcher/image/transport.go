// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/slipway-net/slipway/launcher/store"
)

// A download that breaks off is taken up where it was, maxResumes times in a row
// without a byte, the first time after resumeFirst and then after twice as long.
const (
	maxResumes  = 4
	resumeFirst = 500 * time.Millisecond
)

// maxRedirects is the number of other places that a registry may send us to for one
// thing, one after the other, as net/http has it where nobody says.
const maxRedirects = 10

// newTransport is how the registry host is reached, HOST[:PORT].
func newTransport(host string, insecure bool) http.RoundTripper {
	plain := insecure || isLocal(host)
	t, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return &resuming{&patient{http.DefaultTransport, idleTimeout}, plain}
	}
	t = t.Clone()
	if insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return &resuming{&patient{t, idleTimeout}, plain}
}

// isLocal reports whether a registry is on this machine.
func isLocal(host string) bool {
	u := url.URL{Host: host}
	name := u.Hostname()
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return name == localRegistry || strings.HasSuffix(name, "."+localRegistry)
}

// A resuming transport bounds manifests, and takes up downloads that break off.
type resuming struct {
	base  http.RoundTripper
	plain bool // what is not encrypted is asked, too
}

// RoundTrip implements http.RoundTripper.
func (t *resuming) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.allowed(r); err != nil {
		return nil, err
	}
	resp, err := t.base.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	if strings.Contains(r.URL.Path, "/manifests/") {
		resp.Body = &bounded{ReadCloser: resp.Body, left: store.MaxBlob}
		return resp, nil
	}
	if resp.ContentLength > 0 {
		resp.Body = &resumed{body: resp.Body, closed: make(chan struct{}), t: t.base, request: r, size: resp.ContentLength, tag: resp.Header.Get("ETag")}
	}
	return resp, nil
}

// allowed returns an error for a request that is not to be made. The library tries
// private addresses without encryption, where anybody on the way could ask for the
// credentials, and follows redirections without end.
func (t *resuming) allowed(r *http.Request) error {
	if r.URL.Scheme != "https" && !t.plain {
		return errors.New("it would not be encrypted: if that is meant, give --tls-verify=false")
	}
	n := 0
	for from := r.Response; from != nil && from.Request != nil; from = from.Request.Response {
		if n++; n > maxRedirects {
			return fmt.Errorf("more than %d redirections", maxRedirects)
		}
	}
	return nil
}

// A bounded body fails where it is too long.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: its manifest is larger than %d bytes", ErrImage, store.MaxBlob)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// A resumed body asks for the rest when it breaks off.
type resumed struct {
	t       http.RoundTripper
	request *http.Request
	tag     string // the entity's, which must stay the same
	size    int64
	off     int64
	tries   int
	closed  chan struct{} // by Close, which may come while Read waits

	mu   sync.Mutex
	body io.ReadCloser
}

// current is the body that is read now.
func (b *resumed) current() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body
}

// isClosed reports whether Close was called.
func (b *resumed) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// Read implements io.Reader.
func (b *resumed) Read(p []byte) (int, error) {
	for {
		n, err := b.current().Read(p)
		b.off += int64(n)
		if n > 0 {
			b.tries = 0
			return n, nil // an error comes again
		}
		if err == nil || b.off >= b.size || b.request.Context().Err() != nil {
			return 0, err
		}
		if b.isClosed() {
			return 0, os.ErrClosed // by us: there is nothing to take up
		}
		if b.tries++; b.tries > maxResumes {
			return 0, fmt.Errorf("the download broke off at byte %d of %d: %w", b.off, b.size, err)
		}
		if rerr := b.resume(); rerr != nil {
			return 0, fmt.Errorf("the download broke off at byte %d of %d and cannot go on: %w", b.off, b.size, errors.Join(err, rerr))
		}
	}
}

// resume asks for the rest. An answer that may be better next time is no error.
func (b *resumed) resume() error {
	wait := resumeFirst << (b.tries - 1)
	timer := time.NewTimer(wait/2 + rand.N(wait)) // not all at the same time
	defer timer.Stop()
	select {
	case <-b.request.Context().Done():
		return b.request.Context().Err()
	case <-b.closed:
		return nil
	case <-timer.C:
	}
	r := b.request.Clone(b.request.Context())
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.off))
	if b.tag != "" && !strings.HasPrefix(b.tag, "W/") {
		r.Header.Set("If-Range", b.tag)
	}
	resp, err := b.t.RoundTrip(r)
	if err != nil {
		return nil
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		resp.Body.Close()
		return nil
	}
	if want := fmt.Sprintf("bytes %d-%d/%d", b.off, b.size-1, b.size); resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Content-Range") != want {
		resp.Body.Close()
		return fmt.Errorf("the registry answers %s (%q) when asked for the rest", resp.Status, resp.Header.Get("Content-Range"))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.body.Close()
	b.body = resp.Body
	if b.isClosed() {
		b.body.Close()
	}
	return nil
}

// Close implements io.Closer.
func (b *resumed) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isClosed() {
		close(b.closed)
	}
	return b.body.Close()
}
