// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package sandbox_test

// usesCgo reports that the Go runtime cannot reach all threads.
const usesCgo = false
