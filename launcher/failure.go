// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// startError says what to do about an init stage that could not be started.
func startError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("make namespaces: %w; to mend it: %s", err, sandbox.UserNSFix())
	}
	return fmt.Errorf("start the init stage: %w", err)
}
