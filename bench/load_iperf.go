// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// iperfPrefix begins the names of the cases that need iperf3.
const iperfPrefix = "iperf3/"

// iperfPort is the port of the peer's iperf3 server.
const iperfPort = 7201

// iperfPatience bounds the wait for the server to listen.
const iperfPatience = 2 * time.Second

// iperfServe starts an iperf3 server for one test, which ends with the endpoint.
func iperfServe(struct{}) (struct{}, error) {
	cmd := exec.Command("iperf3", "-s", "-1", "-p", strconv.Itoa(iperfPort))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := newPlace().start(cmd); err != nil {
		return struct{}{}, fmt.Errorf("start iperf3 server: %w", err)
	}
	go cmd.Wait()
	return struct{}{}, nil
}

// iperfArgs describe one run of the iperf3 client, in whole seconds.
type iperfArgs struct {
	Addr    netip.Addr
	Streams int
	Up      bool
	Window  time.Duration
}

// iperfOmit is the warm-up that iperf3 leaves out of its report, in seconds: what
// the first buffers on the way swallow is no throughput.
const iperfOmit = 1

// iperfInFlight is how many bytes the receiver may count that the sender does not: they
// were sent in the warm-up and were on their way at its end, in the buffers of two
// connections at most (net.ipv4.tcp_rmem and tcp_wmem, up to 36 MB together).
const iperfInFlight = 72e6

// iperfSeconds is how long iperf3 is told to measure.
func iperfSeconds(window time.Duration) int { return int(math.Ceil(window.Seconds())) }

// iperfRun returns what the receiving iperf3 counted, in bits per second.
func iperfRun(a iperfArgs) (float64, error) {
	args := []string{
		"-c", a.Addr.String(), "-p", strconv.Itoa(iperfPort), "-J",
		"-P", strconv.Itoa(a.Streams), "-t", strconv.Itoa(iperfSeconds(a.Window)), "-O", strconv.Itoa(iperfOmit),
	}
	if !a.Up {
		args = append(args, "-R")
	}
	var err error
	for end := time.Now().Add(iperfPatience); time.Now().Before(end); time.Sleep(reachPause) {
		var rate float64
		if rate, err = iperfOnce(args); err == nil {
			return rate, nil
		}
	}
	return 0, err
}

func iperfOnce(args []string) (float64, error) {
	out, runErr := exec.Command("iperf3", args...).Output()
	return parseIperf(out, runErr)
}

// An iperfSum is what one end counted of all streams.
type iperfSum struct {
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
}

// parseIperf reads the report of an iperf3 client; runErr is how it ended.
func parseIperf(out []byte, runErr error) (float64, error) {
	var report struct {
		Error string
		End   struct {
			SumSent     iperfSum `json:"sum_sent"`
			SumReceived iperfSum `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, errors.Join(fmt.Errorf("read iperf3's report: %w", err), runErr)
	}
	if report.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	if sent, got := report.End.SumSent.Bytes, report.End.SumReceived.Bytes; got > sent+iperfInFlight {
		return 0, fmt.Errorf("implausible: iperf3's receiver counted %.0f bytes, its sender %.0f", got, sent)
	}
	return report.End.SumReceived.BitsPerSecond, runErr
}
