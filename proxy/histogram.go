package proxy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/balance"
)

// longTimes are the upper bounds of times that agents take: from what a proxy adds to
// an hour, the default of a whole answer's limit.
var longTimes = newBounds(5*time.Millisecond, 25*time.Millisecond, 100*time.Millisecond, 250*time.Millisecond, 500*time.Millisecond,
	time.Second, 2500*time.Millisecond, 5*time.Second, 10*time.Second, 30*time.Second, time.Minute, 5*time.Minute, 10*time.Minute, time.Hour)

// gapTimes are those between the events of a stream.
var gapTimes = newBounds(time.Millisecond, 5*time.Millisecond, 10*time.Millisecond, 25*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond,
	250*time.Millisecond, 500*time.Millisecond, time.Second, 5*time.Second, 15*time.Second, time.Minute, 5*time.Minute)

// bounds are the upper bounds of a histogram's buckets, and how they are written.
type bounds struct {
	at   []time.Duration
	text []string // one more: +Inf
}

func newBounds(at ...time.Duration) *bounds {
	b := &bounds{at: at}
	for _, d := range at {
		b.text = append(b.text, strconv.FormatFloat(d.Seconds(), 'g', -1, 64))
	}
	b.text = append(b.text, "+Inf")
	return b
}

// histogram counts durations in fixed buckets, as Prometheus has them: any two can be
// added up, which those of the metrics library cannot without its own database.
type histogram struct {
	bounds *bounds
	counts []atomic.Uint64
	// sum is in microseconds: in nanoseconds ten thousand streams would fill it in ten
	// days.
	sum atomic.Int64
}

func newHistogram(b *bounds) *histogram {
	return &histogram{bounds: b, counts: make([]atomic.Uint64, len(b.text))}
}

// observe counts d. It takes no lock and allocates nothing.
func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(h.bounds.at) && d > h.bounds.at[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(max(d, 0) / time.Microsecond))
}

// appendTo writes the samples; words are the labels in their braces.
func (h *histogram) appendTo(dst []byte, name, words string) []byte {
	words = strings.TrimSuffix(words, "}")
	total := uint64(0)
	for i, le := range h.bounds.text {
		total += h.counts[i].Load()
		dst = appendSample(dst, name+"_bucket", words+`,le="`+le+`"}`, strconv.FormatUint(total, 10))
	}
	dst = appendSample(dst, name+"_sum", words+"}", strconv.FormatFloat(float64(h.sum.Load())/1e6, 'g', -1, 64))
	return appendSample(dst, name+"_count", words+"}", strconv.FormatUint(total, 10))
}

// appendHistograms writes a family of histograms, in the order of their labels.
func appendHistograms[K comparable](dst []byte, f *family[K, *histogram], name string, words func(K) string) []byte {
	all := *f.series.Load()
	if len(all) == 0 {
		return dst
	}
	list := make([]labelled[*histogram], 0, len(all))
	for k, h := range all {
		list = append(list, labelled[*histogram]{words(k), h})
	}
	sortLabelled(list)
	dst = appendHead(dst, name, "histogram")
	for _, l := range list {
		dst = l.value.appendTo(dst, name, l.words)
	}
	return dst
}

// labelled is a value with its labels.
type labelled[V any] struct {
	words string
	value V
}

func sortLabelled[V any](list []labelled[V]) {
	slices.SortFunc(list, func(a, b labelled[V]) int { return cmp.Compare(a.words, b.words) })
}

// appendStreams writes what the streams count.
func (m *meters) appendStreams(dst []byte) []byte {
	all := *m.streams.series.Load()
	list := make([]labelled[*streamMeters], 0, len(all))
	snap := m.s.snapshot()
	for name, s := range all {
		list = append(list, labelled[*streamMeters]{name, s})
	}
	sortLabelled(list)
	gaps, open := []byte(nil), []byte(nil)
	for _, l := range list {
		words := labels("agent", l.words)
		n := l.value.open.Load()
		if n != 0 || snap != nil && snap.agent(l.words) != nil { // a gauge goes with its agent
			open = appendSample(open, "dragoman_streams_open", words, strconv.FormatInt(n, 10))
		}
		gaps = l.value.gaps.appendTo(gaps, "dragoman_event_gap_seconds", words)
	}
	if len(gaps) > 0 {
		dst = append(appendHead(dst, "dragoman_event_gap_seconds", "histogram"), gaps...)
	}
	if len(open) > 0 {
		dst = append(appendHead(dst, "dragoman_streams_open", "gauge"), open...)
	}
	return dst
}

// backendGauges are how a backend stands. Two urls of an agent on the same host, which
// differ in their paths, are one.
type backendGauges struct {
	state   int
	running int
}

// stateNumber is how dragoman_backend_state tells a state.
func stateNumber(s balance.State) int {
	switch s {
	case balance.Closed:
		return 0
	case balance.HalfOpen:
		return 1
	case balance.Open:
		return 2
	}
	return 3
}

// appendBackends writes how the backends of the configuration in force stand.
func (m *meters) appendBackends(dst []byte) []byte {
	snap := m.s.snapshot()
	if snap == nil {
		return dst
	}
	var list []labelled[*backendGauges]
	for i := range snap.conf.Agents {
		a := snap.agents[&snap.conf.Agents[i]]
		for j, member := range a.set.Members() {
			words := labels("agent", a.conf.Name, "backend", a.backends[j].name)
			k := slices.IndexFunc(list, func(l labelled[*backendGauges]) bool { return l.words == words })
			if k < 0 {
				k = len(list)
				list = append(list, labelled[*backendGauges]{words, &backendGauges{state: 3}})
			}
			g := list[k].value
			g.state = min(g.state, stateNumber(member.State()))
			g.running += member.Running()
		}
	}
	for _, f := range []struct {
		name  string
		value func(*backendGauges) int
	}{
		{"dragoman_backend_up", func(g *backendGauges) int {
			if g.state < 2 {
				return 1
			}
			return 0
		}},
		{"dragoman_backend_state", func(g *backendGauges) int { return g.state }},
		{"dragoman_backend_running", func(g *backendGauges) int { return g.running }},
	} {
		dst = appendHead(dst, f.name, "gauge")
		for _, l := range list {
			dst = appendSample(dst, f.name, l.words, strconv.Itoa(f.value(l.value)))
		}
	}
	return dst
}

func appendHead(dst []byte, name, kind string) []byte {
	dst = append(dst, "# HELP "+name+" "+help[name]+"\n"...)
	return append(dst, "# TYPE "+name+" "+kind+"\n"...)
}

func appendSample(dst []byte, name, words, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, words...)
	dst = append(dst, ' ')
	dst = append(dst, value...)
	return append(dst, '\n')
}

// help says what each metric is. docs/metrics.md has the same names.
var help = map[string]string{ // #nosec G101 -- no credentials
	"dragoman_requests_total":                 "Requests that ended, by what they were and how they ended.",
	"dragoman_request_seconds":                "Time from the head of a request to the end of its answer.",
	"dragoman_first_byte_seconds":             "Time from the head of a request to the first byte of its answer; heartbeats are none.",
	"dragoman_event_gap_seconds":              "Time between two writes of a stream's answer to its client; heartbeats are none.",
	"dragoman_tokens_total":                   "Tokens as the backends reported them.",
	"dragoman_streams_open":                   "Streams that are being written to clients.",
	"dragoman_requests_running":               "Requests whose agent is at work.",
	"dragoman_queue_waiting":                  "Requests that stand in line for a place.",
	"dragoman_backend_up":                     "1 if requests may go to the backend.",
	"dragoman_backend_state":                  "0 closed, 1 half-open, 2 open (it failed too often), 3 down (a check says so).",
	"dragoman_backend_running":                "Requests that the backend serves.",
	"dragoman_retries_total":                  "Further attempts at a request.",
	"dragoman_fallbacks_total":                "Requests that went on to another agent.",
	"dragoman_dns_stale_total":                "Lookups that failed while the last known addresses were used.",
	"dragoman_state_conversations":            "Conversations that are kept.",
	"dragoman_state_bytes":                    "What they take.",
	"dragoman_state_evicted_total":            "Conversations that were thrown away.",
	"dragoman_state_failures_total":           "Conversations that could not be read, and answers that were not kept.",
	"dragoman_dropped_total":                  "Fields that could not be carried.",
	"dragoman_limited_total":                  "Requests that a limit refused.",
	"dragoman_limiter_up":                     "1 if the shared limits can be had.",
	"dragoman_limiter_changes_total":          "How often that changed.",
	"dragoman_limiter_unsettled":              "Settlements that did not reach the shared store.",
	"dragoman_connections":                    "Open connections of clients.",
	"dragoman_connections_evicted_total":      "Idle connections that made room for others.",
	"dragoman_draining":                       "1 while the proxy is shutting down.",
	"dragoman_config_reloads_total":           "Configurations that were read again, by whether they could be used.",
	"dragoman_config_last_reload_successful":  "0 if the last configuration could not be used.",
	"dragoman_tls_certificate_expiry_seconds": "When the listener's certificate ends, in Unix time.",
	"dragoman_log_dropped_total":              "Log lines that were dropped because nobody took them.",
	"dragoman_build_info":                     "1; its labels tell the program.",
}
