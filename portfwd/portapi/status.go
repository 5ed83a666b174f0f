// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/slipway-net/slipway/portfwd"
)

// kinds are the statuses that stand for errors of portfwd.
func kinds() []struct {
	status int
	err    error
} {
	return []struct {
		status int
		err    error
	}{
		{http.StatusConflict, portfwd.ErrInUse},
		{http.StatusForbidden, portfwd.ErrPrivileged},
		{http.StatusNotFound, portfwd.ErrNoPort},
		{http.StatusInsufficientStorage, portfwd.ErrTooMany},
		{http.StatusUnprocessableEntity, portfwd.ErrNotOurs},
		{http.StatusUnprocessableEntity, portfwd.ErrNoInterface},
		{http.StatusUnprocessableEntity, portfwd.ErrNoLoopback},
		{http.StatusServiceUnavailable, portfwd.ErrClosed},
		{http.StatusGatewayTimeout, context.DeadlineExceeded},
	}
}

// Status returns the status that tells of an error of a Table.
func Status(err error) int {
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			return k.status
		}
	}
	return http.StatusBadRequest
}

// Sentinel returns the error that a status stands for, or nil.
func Sentinel(status int) error {
	for _, k := range kinds() {
		if status == k.status {
			return k.err
		}
	}
	return nil
}
