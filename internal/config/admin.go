package config

import "strings"

// adminVariable sets admin.listen for a sidecar, which has no file.
const adminVariable = "DRAGOMAN_ADMIN_LISTEN"

// Admin is the listener for whoever runs the proxy: health with its reasons, and metrics. It is outside all limits.
type Admin struct {
	// Listen is where probes and scrapers connect: address:port, :port for every address, or unix:/path of a socket.
	// Default: 127.0.0.1:8081. Empty turns it off: the main listener still answers /livez and /readyz, without reasons.
	// What it tells (names of agents, counts) is for operators, so open it only to a network of theirs. A second proxy on
	// the same host needs an address of its own; port 0 lets the system choose one.
	Listen string

	// PProf serves profiles of the process under /debug/pprof/. Default: false. They cost time while they are taken, and a
	// heap or a trace shows what the process works on: turn it on while you look for something.
	PProf bool
}

// DefaultAdmin is the admin listener of an empty file.
func DefaultAdmin() Admin { return Admin{Listen: "127.0.0.1:8081"} }

// Network is Listen in the words of [net.Listen]: "tcp" and an address, or "unix" and a path.
func (a Admin) Network() (network, address string) { return Server{Listen: a.Listen}.Network() }

func (a *Admin) read(v value) {
	v.mapping(fields{
		"listen": a.readListen,
		"pprof":  boolean(&a.PProf),
	})
}

func (a *Admin) readListen(v value) {
	text, ok := v.scalar(`an address such as 127.0.0.1:8081, or "" for none`)
	if !ok {
		return
	}
	listen, problem := parseAdminListen(text)
	if problem != "" {
		v.problem("%s", problem)
		return
	}
	a.Listen = listen
}

// parseAdminListen checks where to listen for operators. Unlike the clients' listener this one spends no credential and
// may be open, because the scrapers and probes of a cluster come from other hosts.
func parseAdminListen(text string) (listen, problem string) {
	const want = `wants address:port such as 127.0.0.1:8081, :8081 for every address, unix:/path, or "" for none`
	if text == "" {
		return "", ""
	}
	if listen, problem = parseListen(text); strings.HasPrefix(problem, "wants address") {
		problem = want
	}
	return listen, strings.Replace(problem, ":8080", ":8081", 1)
}
