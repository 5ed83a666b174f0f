// SPDX-License-Identifier: Apache-2.0

// Demoserver is the host's side of the demo: a web server at an address of this
// machine that is not loopback, since a container does not reach the host's
// loopback. It prints its URL when it is ready and ends when its standard input
// does, so that it cannot outlive the script that started it.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

// bigSize is the length of /big in bytes: a second or so at 10 Gbit/s.
const bigSize = 1 << 30

// chunkSize is how much of /big is written at a time, in bytes.
const chunkSize = 1 << 20

// headerTimeout bounds how long a client may take to ask.
const headerTimeout = 10 * time.Second

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demoserver:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stdout io.Writer) error {
	ip, err := hostAddr()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "http://%s\n", ln.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	mux.HandleFunc("GET /big", big)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	go func() {
		io.Copy(io.Discard, stdin)
		srv.Close()
	}()
	if err := <-served; err != http.ErrServerClosed {
		return err
	}
	return nil
}

// hostAddr returns an address of the machine that others can reach, IPv4 if
// there is one.
func hostAddr() (net.IP, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var ips []net.IP
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			ips = append(ips, n.IP)
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("this machine has no address but loopback")
	}
	return ips[max(0, slices.IndexFunc(ips, func(ip net.IP) bool { return ip.To4() != nil }))], nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello from the host. Your connection comes from %s.\n", r.RemoteAddr)
}

func big(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(bigSize))
	chunk := make([]byte, chunkSize)
	for range bigSize / chunkSize {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
