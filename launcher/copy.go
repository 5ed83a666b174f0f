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

// A StillCopy carries files into or out of a container that does not run, with the
// rights that its root would have. For that it makes the container once more, in
// namespaces that end with the copy; of Config it takes what makes the container's files
// what they are: the root, the ids, the volumes and the rights. What is mounted besides
// volumes can only be read. Whoever has the layer of Config.Root keeps others from it.
type StillCopy struct {
	Config Config
}

// Out is as Copy.Out.
func (c StillCopy) Out(ctx context.Context, path string, w *os.File) error {
	c.Config.Stdin, c.Config.Stdout = nil, w
	return c.run(ctx, sandbox.CopyOut, path)
}

// In is as Copy.In.
func (c StillCopy) In(ctx context.Context, path string, r *os.File) error {
	c.Config.Stdin, c.Config.Stdout = r, nil
	return c.run(ctx, sandbox.CopyIn, path)
}

func (c StillCopy) run(ctx context.Context, word, path string) error {
	no := false
	old := &c.Config
	ct, err := newContainer(Config{
		Args: []string{word, path}, User: "0:0", Net: NetNone, Init: &no, Root: old.Root, IDs: old.IDs, Mounts: old.Mounts,
		CapAdd: old.CapAdd, CapDrop: old.CapDrop, Privileged: old.Privileged, NewPrivs: old.NewPrivs, Seccomp: old.Seccomp,
		Unmask: old.Unmask, Mask: old.Mask, Stdin: old.Stdin, Stdout: old.Stdout, Log: old.Log,
	}, false)
	if err != nil {
		return err
	}
	// A stream that is a terminal is no archive; it is taken as it is.
	ct.still, ct.plan.files, ct.plan.streams, ct.plan.spec.Process.Terminal = true, nil, [3]bool{}, false
	return copied(ct.Run(ctx))
}

func (c Copy) run(ctx context.Context, e Exec) error {
	e.Order, e.PID, e.Pidfd, e.User, e.Workdir, e.mode = c.Order, c.PID, c.Pidfd, "0:0", "/", sandbox.ModeCopy
	return copied(e.Run(ctx))
}

// copied is the error of a copy that ended with code.
func copied(code int, err error) error {
	if err == nil && code != 0 {
		return &sandbox.Failure{Code: code, Text: "the copying was ended"}
	}
	return err
}
