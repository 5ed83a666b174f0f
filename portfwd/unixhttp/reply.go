// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// A Failure is the body of every reply that tells of one.
type Failure struct {
	Message string `json:"message"` // one line
	// Socket is the inode of the socket that has a port which is in use, where only the
	// client may be able to see whose it is; else 0.
	Socket uint32 `json:"socket,omitempty"`
}

// Reply answers with the status and v as JSON. A client that has gone is no error.
func Reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Fail answers with the status and the message, of which it makes one line.
func Fail(w http.ResponseWriter, status int, message string) {
	FailWith(w, status, Failure{Message: message})
}

// FailWith is Fail for a Failure that says more.
func FailWith(w http.ResponseWriter, status int, f Failure) {
	f.Message = strings.Join(strings.Fields(f.Message), " ")
	Reply(w, status, f)
}

// Endless lifts the bounds in time from a request: its reply takes as long as the
// client reads. The request's context is done when the client leaves.
func Endless(w http.ResponseWriter) error {
	c := http.NewResponseController(w)
	return errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}))
}

// ReadBody returns the body of a request. Where it has more than MaxBody bytes, or
// does not come, it answers and reports false.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		Fail(w, http.StatusRequestTimeout, "the rest of the request has not come in time")
	case err != nil:
		Fail(w, http.StatusBadRequest, fmt.Sprintf("the request's body cannot be read: %v", err))
	case len(body) > MaxBody:
		Fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request's body has more than %d bytes", MaxBody))
		// Were the rest left in the socket, a client that writes it all before it
		// reads might never get to the reply.
		if http.NewResponseController(w).Flush() == nil {
			_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
		}
	default:
		return body, true
	}
	return nil, false
}
