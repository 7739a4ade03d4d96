package proxy

import (
	"net/url"
	"strings"

	"github.com/dragoman-proxy/dragoman/translate"
)

// A route is one path of one face.
type route struct {
	face *translate.Protocol
	translate.Route
	segments []string // for a path with {id}
}

// router finds the face that a path belongs to. Paths are matched exactly, on
// the raw bytes of the request line, so that there is one view of them.
type router struct {
	exact    map[string][]*route // by path, one for each method
	patterns []*route
	all      []*route
}

func newRouter() *router {
	r := &router{exact: map[string][]*route{}}
	for _, p := range translate.Protocols() {
		for _, tr := range p.Routes {
			rt := &route{face: p, Route: tr}
			r.all = append(r.all, rt)
			if strings.Contains(tr.Path, "{") {
				rt.segments = strings.Split(tr.Path, "/")
				r.patterns = append(r.patterns, rt)
				continue
			}
			r.exact[tr.Path] = append(r.exact[tr.Path], rt)
		}
	}
	return r
}

// match is what the router knows of a path.
type match struct {
	route *route
	agent string // from /agents/{name}/…, "" without
	named bool   // the path has that prefix
	id    string // what {id} matched
	item  string // what {item} matched
	face  *translate.Protocol
	allow string // methods that exist, when the path does but not for this method
}

// find matches a method and a raw path without its query. If there is no route
// the face is the one whose paths are nearest, so that the error can be told in
// its words.
func (r *router) find(method, path string) match {
	m := match{}
	full := path
	if rest, ok := strings.CutPrefix(path, "/agents/"); ok {
		name, tail, _ := strings.Cut(rest, "/")
		if n, err := url.PathUnescape(name); err == nil {
			m.agent, m.named = n, true
			path = "/" + tail
		}
	}
	if !r.in(&m, method, path) && m.allow == "" {
		m.face = r.nearest(path)
		if full == path && path == "/" {
			m.face = translate.Lookup("cycls")
		}
	}
	return m
}

func (r *router) in(m *match, method, path string) bool {
	for _, rt := range r.exact[path] {
		if rt.Method == method {
			m.route, m.face = rt, rt.face
			return true
		}
		m.note(rt)
	}
	if len(r.exact[path]) > 0 {
		return false
	}
	for _, rt := range r.patterns {
		id, item, ok := rt.capture(path)
		if !ok {
			continue
		}
		if rt.Method == method {
			m.route, m.face, m.id, m.item, m.allow = rt, rt.face, id, item, ""
			return true
		}
		m.note(rt)
	}
	return false
}

func (m *match) note(rt *route) {
	if m.face == nil {
		m.face = rt.face
	}
	if m.allow != "" {
		m.allow += ", "
	}
	m.allow += rt.Method
}

// capture matches a path with {…} segments and decodes what stands there.
func (rt *route) capture(path string) (id, item string, ok bool) {
	for i, want := range rt.segments {
		seg, rest, more := strings.Cut(path, "/")
		if more != (i < len(rt.segments)-1) {
			return "", "", false
		}
		path = rest
		if strings.HasPrefix(want, "{") {
			d, err := url.PathUnescape(seg)
			if err != nil || d == "" {
				return "", "", false
			}
			if want == "{item}" {
				item = d
			} else {
				id = d
			}
		} else if seg != want {
			return "", "", false
		}
	}
	return id, item, true
}

// nearest is the face that shares the longest beginning with a path; Chat's,
// whose errors most clients can read, if none does.
func (r *router) nearest(path string) *translate.Protocol {
	best, n := translate.Protocols()[0], len("/v1/")
	for _, rt := range r.all {
		shared := 0
		for shared < len(path) && shared < len(rt.Path) && path[shared] == rt.Path[shared] {
			shared++
		}
		// Whole segments count: /v1/agents is no beginning of /v1/agent/….
		for shared > 0 && rt.Path[shared-1] != '/' && (shared < len(path) && path[shared] != '/' || shared < len(rt.Path) && rt.Path[shared] != '/') {
			shared--
		}
		if shared > n {
			best, n = rt.face, shared
		}
	}
	return best
}

// paths lists the paths that run an agent for people, as a 404 names them.
func (r *router) paths() string {
	var b strings.Builder
	for _, rt := range r.all {
		if rt.Op != translate.OpGenerate && rt.Op != translate.OpBatch {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(rt.Method + " " + rt.Path)
	}
	return b.String()
}
