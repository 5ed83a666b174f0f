// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"os"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// A Copy carries files into or out of a container that runs, with the rights of its
// root. Its fields are those of Exec.
type Copy struct {
	Order      []byte
	PID, Pidfd int
}

// Out writes what is at path in the container to w, as a tar archive.
func (c Copy) Out(ctx context.Context, path string, w *os.File) error {
	return c.run(ctx, Exec{Args: []string{sandbox.CopyOut, path}, Stdout: w})
}

// In unpacks the tar archive r in the directory at path in the container. If there is
// none, what r has is unpacked as path; it must be one file or directory then.
func (c Copy) In(ctx context.Context, path string, r *os.File) error {
	return c.run(ctx, Exec{Args: []string{sandbox.CopyIn, path}, Stdin: r})
}

func (c Copy) run(ctx context.Context, e Exec) error {
	e.Order, e.PID, e.Pidfd, e.User, e.Workdir, e.mode = c.Order, c.PID, c.Pidfd, "0:0", "/", sandbox.ModeCopy
	code, err := e.Run(ctx)
	if err == nil && code != 0 {
		return &sandbox.Failure{Code: code, Text: "the copying was ended"}
	}
	return err
}
