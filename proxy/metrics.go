package proxy

import (
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// maxFields bounds the different fields in dragoman_dropped_total: beyond it a
// field is called "other". The protocols together know fewer.
const maxFields = 1000

// meters are what the proxy counts. Every label has a bounded number of values:
// names of the configuration, of protocols and of outcomes, statuses of our own,
// and for fields what maxFields allows. Nothing a client made up is a label.
type meters struct {
	set      *metrics.Set
	requests counters[requestKey]
	dropped  counters[droppedKey]
	limited  counters[limitedKey]
	changes  *metrics.Counter // of whether the shared limits can be had
	shared   atomic.Bool      // they can
}

// requestKey are the labels of dragoman_requests_total.
type requestKey struct {
	agent, face, backend string // "" where the request did not come so far
	status               int
	outcome              string
}

// droppedKey are the labels of dragoman_dropped_total.
type droppedKey struct {
	agent, face, backend string
	side                 string // request or answer
	field                string
}

// limitedKey are the labels of dragoman_limited_total.
type limitedKey struct {
	scope string // key, agent or global
	what  string // requests, tokens, concurrent, or unavailable: nobody could be asked
	agent string
}

func newMeters(s *Server) *meters {
	metrics.ExposeMetadata(true) // the TYPE lines
	m := &meters{set: metrics.NewSet()}
	m.requests.init(m.set, 1<<16, requestKey.name, nil)
	m.dropped.init(m.set, maxFields, droppedKey.name, func(k droppedKey) droppedKey {
		k.field = "other"
		return k
	})
	m.limited.init(m.set, 1<<16, limitedKey.name, nil)
	m.set.NewGauge("dragoman_requests_running", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.running))
	})
	m.set.NewGauge("dragoman_draining", func() float64 {
		if s.draining.Load() {
			return 1
		}
		return 0
	})
	return m
}

func (k requestKey) name() string {
	return "dragoman_requests_total" + labels("agent", k.agent, "face", k.face, "backend", k.backend,
		"status", strconv.Itoa(k.status), "outcome", k.outcome)
}

func (k limitedKey) name() string {
	return "dragoman_limited_total" + labels("scope", k.scope, "what", k.what, "agent", k.agent)
}

// refused counts a request that a limit refused. Who called is no label: there may
// be as many callers as an issuer of tokens has users.
func (m *meters) refused(r *ratelimit.Refusal, a *agent) {
	k := limitedKey{scope: r.Kind.String(), what: r.What.String()}
	if a != nil {
		k.agent = a.conf.Name
	}
	m.limited.get(k).Inc()
}

// share has the state of shared limits told; dropped is how many settlements have
// not reached the store.
func (m *meters) share(dropped func() uint64) {
	m.set.NewGauge("dragoman_limiter_unsettled", func() float64 { return float64(dropped()) })
	m.shared.Store(true)
	m.changes = m.set.NewCounter("dragoman_limiter_changes_total")
	m.set.NewGauge("dragoman_limiter_up", func() float64 {
		if m.shared.Load() {
			return 1
		}
		return 0
	})
}

// limiter counts a change of whether the shared limits can be had.
func (m *meters) limiter(up bool) {
	m.shared.Store(up)
	m.changes.Inc()
}

func (k droppedKey) name() string {
	return "dragoman_dropped_total" + labels("agent", k.agent, "face", k.face, "backend", k.backend, "side", k.side, "field", k.field)
}

// write writes everything in the text format of Prometheus, the process itself
// included.
func (m *meters) write(w io.Writer) {
	m.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}

// count counts a request that has ended, and what it and its answer lost.
func (m *meters) count(c *call, outcome string) {
	r := &c.log
	m.requests.get(requestKey{r.agent, r.face, r.backend, r.status, outcome}).Inc()
	if c.sent && c.req != nil && c.req.Ledger.Len() > 0 { // what was refused instead lost nothing
		m.lost(r, "request", c.req.Ledger.Names())
	}
	if c.losses.Len() > 0 {
		m.lost(r, "answer", c.losses.Names())
	}
}

func (m *meters) lost(r *record, side string, names []string) {
	for _, name := range names {
		field, n := fieldLabel(name)
		m.dropped.get(droppedKey{r.agent, r.face, r.backend, side, field}).Add(n)
	}
}

// fieldLabel makes a label of an entry of the ledger: a path without its
// indexes, and for entries that were only counted their number.
func fieldLabel(name string) (string, int) {
	if kind, rest, ok := strings.Cut(name, "("); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(rest, ")"))
		switch {
		case err != nil:
		case kind == "unknown":
			return kind, n
		case kind == "more":
			return "other", n
		}
	}
	b := make([]byte, 0, len(name))
	index := false
	for i := range len(name) {
		switch c := name[i]; {
		case index && c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '[' || c == ']':
			b, index = append(b, c), c == '['
		default: // no path of ours is written so
			return "other", 1
		}
	}
	if len(b) > 100 {
		return "other", 1
	}
	return string(b), 1
}

// counters are the series of one metric. Looking one up that exists takes no lock
// and allocates nothing.
type counters[K comparable] struct {
	set    *metrics.Set
	name   func(K) string
	most   int
	excess func(K) K // what stands for a key beyond most; nil: the key itself

	series atomic.Pointer[map[K]*metrics.Counter]
	mu     sync.Mutex // for adding one
}

func (c *counters[K]) init(set *metrics.Set, most int, name func(K) string, excess func(K) K) {
	c.set, c.most, c.name, c.excess = set, most, name, excess
	c.series.Store(&map[K]*metrics.Counter{})
}

func (c *counters[K]) get(k K) *metrics.Counter {
	if n, ok := (*c.series.Load())[k]; ok {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.series.Load()
	if len(old) >= c.most && c.excess != nil {
		k = c.excess(k)
	}
	if n, ok := old[k]; ok {
		return n
	}
	n := c.set.GetOrCreateCounter(c.name(k))
	all := maps.Clone(old)
	all[k] = n
	c.series.Store(&all)
	return n
}

// labels writes pairs of names and values as the text format has them. The
// words live on in the metric, so that they are copied.
func labels(pairs ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, word := range pairs {
		switch {
		case i%2 == 1:
			_, _ = labelEscapes.WriteString(&b, word)
			b.WriteByte('"')
			continue
		case i > 0:
			b.WriteByte(',')
		}
		b.WriteString(word)
		b.WriteString(`="`)
	}
	b.WriteByte('}')
	return b.String()
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// outcome is how the request ended, in one word.
func (c *call) outcome() string {
	r := &c.log
	switch {
	case r.err == nil && c.ans != nil && c.ans.Ended() && c.ans.Err() == nil:
		switch c.ans.Reason() {
		case translate.FinishLength, translate.FinishContentFilter, translate.FinishCancelled:
			return "incomplete"
		}
		return "completed"
	case r.err == nil && r.batch != nil:
		return r.batch.outcome()
	case r.err == nil:
		return "completed"
	case r.err.Kind == translate.KindClosed:
		return "client_gone"
	case r.err.Kind == translate.KindTimeout:
		return "timeout"
	case r.err.Code == "shutting_down":
		return "shutdown"
	}
	return "failed"
}
