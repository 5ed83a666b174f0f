// SPDX-License-Identifier: Apache-2.0

//go:build !slipway_stage

package stagefile

// binary is empty: this build has no stage of its own.
const binary = ""
