package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Target is where a backend is, parsed from an agent's url: http://host:port/base, https://host:port/base, unix:/path of
// a socket, or demo:protocol for an embedded demo agent. A user and password in it are refused, as are a query and a
// fragment; [Credential] is for the former.
type Target struct {
	// Scheme is http, https, unix or demo.
	Scheme string

	// Host is host:port in lower case, for http and https, with the scheme's port where none was written and brackets
	// around an IPv6 address.
	Host string

	// Path is the path of the socket, for unix.
	Path string

	// Demo is the protocol of the embedded agent, for demo.
	Demo string

	// BasePath comes before every path of the protocol, for http and https: "" or "/base" without a slash at its end,
	// percent-encoded as it was written.
	BasePath string
}

// String is the target as it would be written in the file.
func (t Target) String() string {
	switch t.Scheme {
	case "unix":
		return "unix:" + t.Path
	case "demo":
		return "demo:" + t.Demo
	case "":
		return ""
	}
	return t.Scheme + "://" + t.Host + t.BasePath
}

// metadataAddrs are the well-known metadata services outside the link-local
// ranges.
var metadataAddrs = [...]netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS, over IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud, over IPv6
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud, classic
}

// IsLinkLocal reports whether an address is link-local or a cloud's metadata service, which gives out the credentials of
// the host. Whoever dials an agent without AllowLinkLocal asks again about what the name resolved to.
func IsLinkLocal(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || slices.Contains(metadataAddrs[:], a)
}

// Loopback reports whether the backend is on this host.
func (t Target) Loopback() bool {
	if t.Scheme == "unix" || t.Scheme == "demo" {
		return true
	}
	host, _, err := net.SplitHostPort(t.Host)
	if err != nil {
		return false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// parseTarget reads a url. The problem does not quote it: a password in it is the most common mistake.
func parseTarget(text string, allowLinkLocal bool, protocols []string) (t Target, problem string) {
	const want = "wants http://host:port, https://host:port, unix:/path or demo:protocol"
	if text == "" {
		return t, "is required: " + strings.TrimPrefix(want, "wants ")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }) {
		return t, "holds a space, a backslash or a character outside ASCII: percent-encode it; of a host name write the xn-- form"
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return Target{Scheme: "unix", Path: path}, checkSocket(path)
	}
	if demo, ok := strings.CutPrefix(text, "demo:"); ok {
		if !slices.Contains(protocols, demo) {
			return t, "names no demo agent: write demo: and one of " + strings.Join(protocols, ", ")
		}
		return Target{Scheme: "demo", Demo: demo}, ""
	}
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return t, want
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.Contains(authority, "@") {
		return t, "holds a user or a password: write `credential` instead"
	}
	t = Target{Scheme: scheme, BasePath: strings.TrimRight(path, "/")}
	if t.Host, problem = parseHost(scheme, authority, allowLinkLocal); problem != "" {
		return t, problem
	}
	if t.BasePath != "" {
		problem = checkPath(t.BasePath)
	}
	return t, problem
}

// parseHost checks a host and fills the port in.
func parseHost(scheme, authority string, allowLinkLocal bool) (hostport, problem string) {
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil || u.Hostname() == "" || u.Host == "" {
		return "", "has no valid host: write http://host:port, with an IPv6 address in brackets"
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case port != "":
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", "has a port that is not from 1 to 65535"
		}
		port = strconv.FormatUint(n, 10)
	case scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	addr, err := netip.ParseAddr(u.Hostname()) // not in lower case: a zone is the name of an interface
	if err != nil {
		return net.JoinHostPort(host, port), checkHostName(host)
	}
	if IsLinkLocal(addr) && !allowLinkLocal {
		return "", "is a link-local or metadata address, which gives out this host's credentials: " +
			"write allow_link_local: true if that is where the agent is"
	}
	return net.JoinHostPort(addr.String(), port), ""
}

// checkHostName checks a name that is not an address.
func checkHostName(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "has a host that is neither a name nor an address"
		}
	}
	if len(name) > 253 {
		return "has a host name longer than 253 characters"
	}
	// Some resolvers take 2852039166 or 0xa9fea9fe for an address, and would go around the check of it.
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "has a host that ends in a number: write an IPv4 address as four decimal numbers"
	}
	return ""
}

// checkPath checks a path that goes into a request line.
func checkPath(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "must begin with a slash"
	case strings.Contains(path, "?"):
		return "holds a query (?), which is not supported: leave it out"
	case strings.Contains(path, "#"):
		return "holds a fragment (#): leave it out"
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`|", r) }):
		return "holds a character that must be percent-encoded"
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "." || segment == ".." {
			return "holds . or .. as a segment: write the path that is meant"
		}
	}
	if _, err := url.PathUnescape(path); err != nil {
		return "holds a % that is no percent-encoding: write %25"
	}
	return ""
}
