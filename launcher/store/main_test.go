// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

func TestMain(m *testing.M) {
	if userns.IsStage(os.Args) {
		os.Exit(stage())
	}
	if len(os.Args) > 1 && os.Args[1] == roleAdd {
		os.Exit(addForever(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func stage() int {
	if _, _, err := userns.Stage(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return store.Serve()
}
