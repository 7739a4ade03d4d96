package proxy

import (
	"bytes"
	"io"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// maxFields bounds the different fields in dragoman_dropped_total: beyond it a
// field is called "other". The protocols together know fewer.
const maxFields = 1000

// maxReasons bounds the series of dragoman_retries_total in the same way.
const maxReasons = 1000

// meters are what the proxy counts. Every label has a bounded number of values:
// names of the configuration, of protocols and of outcomes, statuses of our own,
// and for fields what maxFields allows. Nothing a client made up is a label.
//
// Counters and histograms of an agent or a backend that a reload removed stay until
// the process ends, because a counter that vanishes loses what was not scraped yet;
// its gauges go with it.
type meters struct {
	s         *Server
	set       *metrics.Set
	requests  counters[requestKey]
	dropped   counters[droppedKey]
	limited   counters[limitedKey]
	tokens    counters[tokensKey]
	retries   counters[retryKey]
	fallbacks counters[fallbackKey]
	stale     counters[staleKey]
	kept      counters[string] // of dragoman_state_failures_total
	durations family[durationKey, *histogram]
	first     family[firstKey, *histogram]
	streams   family[string, *streamMeters] // by agent
	changes   *metrics.Counter              // of whether the shared limits can be had
	shared    atomic.Bool                   // they can

	version string        // of the program
	unsaid  func() uint64 // log lines that were dropped; nil: nobody counts
}

// streamMeters are what an agent's streams count while they run.
type streamMeters struct {
	open atomic.Int64
	gaps *histogram // from one write of the answer to the next
}

// requestKey are the labels of dragoman_requests_total.
type requestKey struct {
	agent, face, protocol string // "" where the request did not come so far
	backend               string // the configured host that was asked last, "" if none was
	status                int
	outcome               string
}

// durationKey are the labels of dragoman_request_seconds.
type durationKey struct{ agent, face, outcome string }

// firstKey are the labels of dragoman_first_byte_seconds.
type firstKey struct{ agent, face string }

// tokensKey are the labels of dragoman_tokens_total.
type tokensKey struct{ agent, direction string }

// retryKey are the labels of dragoman_retries_total.
type retryKey struct{ agent, why string }

// fallbackKey are the labels of dragoman_fallbacks_total.
type fallbackKey struct{ agent, to string }

// staleKey are the labels of dragoman_dns_stale_total.
type staleKey struct{ agent, backend string }

// droppedKey are the labels of dragoman_dropped_total.
type droppedKey struct {
	agent, face, protocol string
	side                  string // request or answer
	field                 string
}

// limitedKey are the labels of dragoman_limited_total.
type limitedKey struct {
	scope string // key, agent or global
	what  string // requests, tokens, concurrent, or unavailable: nobody could be asked
	agent string
}

func newMeters(s *Server) *meters {
	metrics.ExposeMetadata(true) // the HELP and TYPE lines
	m := &meters{s: s, set: metrics.NewSet()}
	m.requests.count(m.set, 1<<16, requestKey.name, nil)
	m.dropped.count(m.set, maxFields, droppedKey.name, func(k droppedKey) droppedKey {
		k.field = "other"
		return k
	})
	m.limited.count(m.set, 1<<16, limitedKey.name, nil)
	m.tokens.count(m.set, 1<<16, func(k tokensKey) string {
		return "dragoman_tokens_total" + labels("agent", k.agent, "direction", k.direction)
	}, nil)
	m.retries.count(m.set, maxReasons, func(k retryKey) string {
		return "dragoman_retries_total" + labels("agent", k.agent, "why", k.why)
	}, func(k retryKey) retryKey {
		k.why = "other"
		return k
	})
	m.fallbacks.count(m.set, 1<<16, func(k fallbackKey) string {
		return "dragoman_fallbacks_total" + labels("agent", k.agent, "to", k.to)
	}, nil)
	m.stale.count(m.set, 1<<16, func(k staleKey) string {
		return "dragoman_dns_stale_total" + labels("agent", k.agent, "backend", k.backend)
	}, nil)
	m.kept.count(m.set, 16, func(why string) string {
		return "dragoman_state_failures_total" + labels("why", why)
	}, nil)
	m.durations.init(1<<16, func(durationKey) *histogram { return newHistogram(longTimes) }, nil)
	m.first.init(1<<16, func(firstKey) *histogram { return newHistogram(longTimes) }, nil)
	m.streams.init(1<<16, func(string) *streamMeters { return &streamMeters{gaps: newHistogram(gapTimes)} }, nil)
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
	m.set.NewGauge("dragoman_queue_waiting", func() float64 { return float64(m.waiting()) })
	return m
}

// waiting is how many requests stand in line: for a place within the limits, or for
// one at an agent's backends.
func (m *meters) waiting() int {
	n := 0
	if m.s.limiter != nil {
		n = m.s.waiting()
	}
	if snap := m.s.snapshot(); snap != nil {
		for _, a := range snap.agents {
			n += a.set.Waiting()
		}
	}
	return n
}

// About has the metrics tell which program this is, and how many log lines it dropped.
// It is called once, before Listen; logDropped may be nil.
func (s *Server) About(version string, logDropped func() uint64) {
	s.meters.version, s.meters.unsaid = version, logDropped
}

func (k requestKey) name() string {
	return "dragoman_requests_total" + labels("agent", k.agent, "face", k.face, "protocol", k.protocol, "backend", k.backend,
		"status", strconv.Itoa(k.status), "outcome", k.outcome)
}

// retried counts another attempt at a request, at the same agent; why is one of a few
// words.
func (m *meters) retried(agent, why string) { m.retries.get(retryKey{agent, why}).Inc() }

// fellBack counts a request that went on to another agent.
func (m *meters) fellBack(agent, to string) { m.fallbacks.get(fallbackKey{agent, to}).Inc() }

// answered notes that the client is about to get the first byte of its answer.
func (c *call) answered(now time.Time) {
	r := &c.log
	r.firstByte = now.Sub(c.start)
	if r.batch == nil { // it has no agent of its own
		c.s.meters.first.get(firstKey{r.agent, r.face}).observe(r.firstByte)
	}
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
	return "dragoman_dropped_total" + labels("agent", k.agent, "face", k.face, "protocol", k.protocol, "side", k.side, "field", k.field)
}

// write writes everything in the text format of Prometheus, the process itself
// included.
func (m *meters) write(w io.Writer) {
	var b bytes.Buffer
	m.set.WritePrometheus(&b)
	var out []byte
	for line := range bytes.Lines(b.Bytes()) {
		out = append(out, line...)
		if name, ok := bytes.CutPrefix(line, []byte("# HELP ")); ok { // the library has no words for it
			if words := help[string(bytes.TrimSpace(name))]; words != "" {
				out = append(append(append(out[:len(out)-1], ' '), words...), '\n')
			}
		}
	}
	out = appendHistograms(out, &m.durations, "dragoman_request_seconds", func(k durationKey) string {
		return labels("agent", k.agent, "face", k.face, "outcome", k.outcome)
	})
	out = appendHistograms(out, &m.first, "dragoman_first_byte_seconds", func(k firstKey) string {
		return labels("agent", k.agent, "face", k.face)
	})
	out = m.appendStreams(out)
	out = m.appendBackends(out)
	out = m.appendState(out)
	var unsaid uint64
	if m.unsaid != nil {
		unsaid = m.unsaid()
	}
	out = appendHead(out, "dragoman_log_dropped_total", "counter")
	out = appendSample(out, "dragoman_log_dropped_total", "", strconv.FormatUint(unsaid, 10))
	out = appendHead(out, "dragoman_build_info", "gauge")
	out = appendSample(out, "dragoman_build_info", labels("version", m.version, "go", runtime.Version()), "1")
	_, _ = w.Write(out)
	metrics.WriteProcessMetrics(w)
}

// count counts a request that has ended, and what it and its answer lost.
func (m *meters) count(c *call, outcome string) {
	r := &c.log
	host := ""
	if c.at != nil {
		host = c.at.name
	}
	m.requests.get(requestKey{r.agent, r.face, r.backend, host, r.status, outcome}).Inc()
	m.durations.get(durationKey{r.agent, r.face, outcome}).observe(time.Since(c.start))
	if c.ans != nil {
		if u := c.ans.Usage(); u.Known() {
			m.tokens.get(tokensKey{r.agent, "input"}).AddInt64(max(u.Input, 0))
			m.tokens.get(tokensKey{r.agent, "output"}).AddInt64(max(u.Output, 0))
		}
	}
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

// family are the series of one metric. Looking one up that exists takes no lock and
// allocates nothing.
type family[K comparable, V any] struct {
	make   func(K) V
	most   int
	excess func(K) K // what stands for a key beyond most; nil: the key itself

	series atomic.Pointer[map[K]V]
	mu     sync.Mutex // for adding one
}

func (f *family[K, V]) init(most int, make func(K) V, excess func(K) K) {
	f.make, f.most, f.excess = make, most, excess
	f.series.Store(&map[K]V{})
}

func (f *family[K, V]) get(k K) V {
	if v, ok := (*f.series.Load())[k]; ok {
		return v
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := *f.series.Load()
	if len(old) >= f.most && f.excess != nil {
		k = f.excess(k)
	}
	if v, ok := old[k]; ok {
		return v
	}
	v := f.make(k)
	all := maps.Clone(old)
	all[k] = v
	f.series.Store(&all)
	return v
}

// counters are a family of counters in a set.
type counters[K comparable] struct {
	family[K, *metrics.Counter]
}

func (c *counters[K]) count(set *metrics.Set, most int, name func(K) string, excess func(K) K) {
	c.init(most, func(k K) *metrics.Counter { return set.GetOrCreateCounter(name(k)) }, excess)
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
