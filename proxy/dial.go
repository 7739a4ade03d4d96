package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// errForbiddenAddress refuses an address that no backend has: link-local ones
// and those where clouds serve a machine its own credentials.
var errForbiddenAddress = errors.New("link-local and metadata addresses are refused (allow_link_local permits them)")

// refuseForbidden is a net.Dialer.Control: it sees the address that is really
// dialled, so a name that resolved to something else since the configuration
// was checked (DNS rebinding) is caught too.
func refuseForbidden(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dialled address %q: %w", address, err)
	}
	if config.IsLinkLocal(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), errForbiddenAddress)
	}
	return nil
}

// dialer returns how this origin is reached: directly, whatever proxies the environment names. net.Dialer brings TCP
// keep-alive and TCP_NODELAY by itself. A name is resolved at every dial.
func (cfg *originConfig) dialer() func(context.Context) (net.Conn, error) {
	if cfg.Dial != nil {
		return cfg.Dial
	}
	var d net.Dialer
	network, addr := "tcp", cfg.Addr
	if cfg.Scheme == "unix" {
		network = "unix"
	} else {
		if !cfg.AllowLinkLocal {
			d.Control = refuseForbidden
		}
		if host, port, ok := cfg.hostName(); ok {
			r := &resolver{host: host, port: port, timeout: cfg.ConnectTimeout / 2, lookup: cfg.Lookup, control: d.Control, stale: cfg.Stale}
			if r.timeout <= 0 {
				r.timeout = defaultConnectTimeout / 2
			}
			if r.lookup == nil {
				r.lookup = systemLookup
			}
			return r.dial
		}
	}
	return func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	}
}

// hostName is the name and port of an origin that is found by name, not by address.
func (cfg *originConfig) hostName() (host, port string, ok bool) {
	if cfg.Dial != nil || cfg.Scheme == "unix" {
		return "", "", false
	}
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return "", "", false
	}
	_, err = netip.ParseAddr(host)
	return host, port, err != nil
}

// clientTLS completes the TLS configuration of an https origin: the name to
// verify is the dialled one unless it was set, and HTTP/1.1 is all we speak.
func (cfg *originConfig) clientTLS() *tls.Config {
	if cfg.Scheme != "https" {
		return nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		t = cfg.TLS.Clone()
	}
	if t.ServerName == "" {
		host, _, err := net.SplitHostPort(cfg.Addr)
		if err != nil {
			host = cfg.Addr
		}
		t.ServerName = host
	}
	t.NextProtos = []string{"http/1.1"}
	if t.ClientSessionCache == nil {
		t.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	}
	return t
}
