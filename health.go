package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// healthTime bounds `dragoman health`. A probe's own limit is often a second or two.
const healthTime = 2 * time.Second

// healthCommand asks a proxy that runs on this host whether it is ready, and tells its
// reasons: the probe for an image that has no shell. It asks address, or the listener that
// conf names; conf is nil where there is no file that can be used.
func healthCommand(address string, conf *config.Config, stdout io.Writer) error {
	var network string
	var secure bool
	switch {
	case address != "":
		if rest, ok := strings.CutPrefix(address, "https://"); ok {
			address, secure = rest, true
		}
		network, address = config.Server{Listen: strings.TrimPrefix(address, "http://")}.Network()
	case conf == nil:
		admin := config.DefaultAdmin()
		if a, ok := os.LookupEnv("DRAGOMAN_ADMIN_LISTEN"); ok && a != "" {
			admin.Listen = a
		}
		network, address = admin.Network()
	case conf.Admin.Listen != "":
		network, address = conf.Admin.Network()
	default:
		network, address = conf.Server.Network()
		secure = conf.Server.TLS.CertFile != ""
	}
	if network == "tcp" {
		// A host that is empty or all addresses is this one.
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" || port == "0" {
			return fmt.Errorf("health: %q is no address of a listener; write with -address where the proxy listens", address)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	if secure {
		// It asks itself: the certificate is made out to a name that clients use, nothing secret
		// is sent, and whoever could stand in between on this host could do worse.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- see above
	}
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	r := bufio.NewReader(io.LimitReader(conn, 64<<10))
	line, err := r.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return fmt.Errorf("health: %s does not answer in HTTP: %w", address, errors.Join(err, errors.New("no status line")))
	}
	for strings.TrimSpace(line) != "" && err == nil {
		line, err = r.ReadString('\n')
	}
	if err == nil {
		_, err = io.Copy(stdout, r)
	}
	switch {
	case words[1] == "503":
		return errors.New("health: the proxy is not ready")
	case words[1] != "200":
		return fmt.Errorf("health: %s answers with status %s", address, words[1])
	case err != nil:
		return fmt.Errorf("health: %w", err)
	}
	return nil
}
