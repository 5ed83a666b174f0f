// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package sandbox

// archPlain are calls that are let through and that other architectures lack.
func archPlain() []uintptr { return nil }

// archDeadly are calls that end the process and that other architectures lack.
func archDeadly() []uintptr { return nil }
