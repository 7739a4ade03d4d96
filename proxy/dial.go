package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// errForbiddenAddress refuses an address that no backend has: link-local ones
// and those where clouds serve a machine its own credentials.
var errForbiddenAddress = errors.New("link-local and metadata addresses are refused (allow_link_local permits them)")

// metadataAddrs are the well-known metadata services outside the link-local
// ranges.
var metadataAddrs = [...]netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS, over IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud, over IPv6
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud, classic
}

// forbiddenAddr reports whether a is link-local or a metadata service.
func forbiddenAddr(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() {
		return true
	}
	for _, m := range metadataAddrs {
		if a == m {
			return true
		}
	}
	return false
}

// refuseForbidden is a net.Dialer.Control: it sees the address that is really
// dialled, so a name that resolved to something else since the configuration
// was checked (DNS rebinding) is caught too.
func refuseForbidden(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dialled address %q: %w", address, err)
	}
	if forbiddenAddr(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), errForbiddenAddress)
	}
	return nil
}

// dialer returns how this origin is reached. net.Dialer brings both address
// families with happy eyeballs, TCP keep-alive and TCP_NODELAY by itself.
func (cfg *originConfig) dialer() func(context.Context) (net.Conn, error) {
	if cfg.Dial != nil {
		return cfg.Dial
	}
	var d net.Dialer
	network, addr := "tcp", cfg.Addr
	if cfg.Scheme == "unix" {
		network = "unix"
	} else if !cfg.AllowLinkLocal {
		d.Control = refuseForbidden
	}
	return func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	}
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
