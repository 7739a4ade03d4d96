package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// group is a set of series that are measured in turns and compared.
type group struct {
	name, title string
	paced       bool // at a fixed rate instead of in a closed loop
	series      []*series
}

// series is one contestant on one route.
type series struct {
	name    string
	process *process
	request []byte
	check   check
	turns   []turn
	lost    int // turns that do not count
	err     error
}

const (
	nameBare   = "bare fasthttp, passing"
	nameNginx  = "nginx, passing"
	namePassed = "Dragoman, passing chat"
	nameOver   = "Dragoman, Responses → Chat"
	suffixLog  = ", access log on"
)

// keep drops the series whose names do not hold text, save the one that the
// others are compared with.
func (g *group) keep(text string) {
	kept := g.series[:1]
	for _, s := range g.series[1:] {
		if strings.Contains(s.name, text) {
			kept = append(kept, s)
		}
	}
	g.series = kept
}

func buildDragoman(out string) error {
	cmd := exec.Command("go", "build", "-o", out, ".") // #nosec G204 -- a path of our own
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build dragoman: %w", err)
	}
	return nil
}

// open starts the backend and the contestants, and says what is measured.
func (h *house) open(binaries []string) ([]*group, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	backend, err := h.add(start("", os.Stderr, self, "backend"))
	if err != nil {
		return nil, err
	}
	bare, err := h.add(start("", os.Stderr, self, "bare", backend.addr))
	if err != nil {
		return nil, err
	}
	var quiet []*process
	for i, binary := range binaries {
		p, err := h.dragoman(binary, fmt.Sprintf("quiet%d", i), backend.addr, false)
		if err != nil {
			return nil, err
		}
		quiet = append(quiet, p)
	}
	logged, err := h.dragoman(binaries[0], "logged", backend.addr, true)
	if err != nil {
		return nil, err
	}
	nginx, err := h.nginx(backend.addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "without nginx:", err)
	}

	lineup := func(g *group, model string, streamed bool, pass, over check) *group {
		chat, responses := chatRequest(model, streamed), responsesRequest(model, streamed)
		g.series = append(g.series, &series{name: nameBare, process: bare, request: chat, check: pass})
		if nginx != nil {
			g.series = append(g.series, &series{name: nameNginx, process: nginx, request: chat, check: pass})
		}
		for i, p := range quiet {
			which := ""
			if i > 0 {
				which = " (" + filepath.Base(binaries[i]) + ")"
			}
			g.series = append(g.series,
				&series{name: namePassed + which, process: p, request: chat, check: pass},
				&series{name: nameOver + which, process: p, request: responses, check: over},
			)
		}
		g.series = append(g.series, &series{name: namePassed + suffixLog, process: logged, request: chat, check: pass})
		return g
	}
	return []*group{
		lineup(&group{name: "json", title: "JSON, closed loop"}, "burst", false, passed(chatJSON), translatedJSON),
		lineup(&group{name: "burst", title: "64-event stream, sent at once, closed loop"}, "burst", true, passed(stream), translatedStream),
		lineup(&group{name: "spaced", title: "64-event stream, an event each 5 ms, fixed rate", paced: true}, "spaced", true, passed(stream), translatedStream),
	}, nil
}

// dragoman starts Dragoman with one chat agent, which has both models.
func (h *house) dragoman(binary, name, backend string, access bool) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(h.dir, name+".yaml")
	level := "warn"
	if access {
		level = "info"
	}
	conf := fmt.Sprintf(`server: {listen: %s}
admin: {listen: ""}
auth: {mode: none}
log: {level: %s, access: %t}
agents:
  - name: chat
    aliases: [burst, spaced]
    protocol: chat
    url: http://%s
`, addr, level, access, backend)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	// A file, as a container's runtime would write it.
	log, err := os.Create(filepath.Join(h.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, err := h.add(start(addr, log, binary, "serve", "-config", path))
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	return p, nil
}

// nginx starts it as one process, unbuffered as streams need it.
func (h *house) nginx(backend string) (*process, error) {
	exe, err := exec.LookPath("nginx")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(h.dir, "nginx.conf")
	conf := strings.NewReplacer("DIR", h.dir, "PORT", port, "BACKEND", backend).Replace(`daemon off;
master_process off;
pid DIR/nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path DIR/nginx-body;
	proxy_temp_path DIR/nginx-proxy;
	fastcgi_temp_path DIR/nginx-fastcgi;
	uwsgi_temp_path DIR/nginx-uwsgi;
	scgi_temp_path DIR/nginx-scgi;
	keepalive_requests 100000000;
	upstream backend {
		server BACKEND;
		keepalive 256;
		keepalive_requests 100000000;
	}
	server {
		listen 127.0.0.1:PORT backlog=1024;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering off;
		}
	}
}
`)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return h.add(start(addr, os.Stderr, exe, "-p", h.dir, "-c", path))
}
