package translate

import (
	"strconv"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// swarmsProtocol is the Swarms API: a request brings its agent with it
// (agent_config) and gives it a task; an answer is the list of what was said
// after the task, each entry under its speaker's name.
var swarmsProtocol = Protocol{
	Name:  "swarms",
	Title: "Swarms",
	Routes: []Route{
		{Method: "POST", Path: swarmsPath, Op: OpGenerate},
		{Method: "POST", Path: "/v1/agent/batch/completions", Op: OpBatch},
		{Method: "GET", Path: "/v1/models/available", Op: OpAgents},
		{Method: "GET", Path: "/v1/rate/limits", Op: OpLimits},
		{Method: "GET", Path: "/health", Op: OpHealth},
	},
	BackendPath: swarmsPath,
	Probe:       func(string) string { return "/health" },
	MaxTokensAt: []string{"agent_config.llm_args.max_tokens", "agent_config.llm_args.max_completion_tokens", "agent_config.max_tokens"},
	// Outputs tell commentary from the answer by their order: the last one is
	// the answer.
	Speaks: Speech{Blocks: Blocks(BlockText, BlockToolCall), Phase: true},
	Options: []Option{{
		Name:   "max_loops",
		Values: []string{"auto", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"},
		Doc:    "how often the agent may loop when the client does not say; empty: the backend's own default, which is 1",
	}},
	Face:    swarmsFace{},
	Backend: swarmsBackend{},
}

const swarmsPath = "/v1/agent/completions"

// swarmsFace is the protocol in the role of the server.
type swarmsFace struct{}

// swarmsBackend is the protocol in the role of the client.
type swarmsBackend struct{}

// AppendError implements Face. All errors are FastAPI's {"detail":"…"}; clients
// of this protocol show the whole body, so that the wait belongs into the text.
func (swarmsFace) AppendError(dst []byte, e *Error) []byte {
	dst = append(dst, `{"detail":`...)
	dst = jsonx.AppendStringS(dst, e.ClientMessage())
	return append(dst, '}')
}

// AppendFailure implements Face: one error event, nothing after it. The time
// in it is the answer's own, the only one known here.
func (swarmsFace) AppendFailure(dst []byte, e *Error, t *Tap) []byte {
	dst = appendSwarmsError(dst, e)
	if t.Created > 0 {
		dst = append(dst, `, "timestamp": "`...)
		dst = appendSwarmsTime(dst, time.Unix(t.Created, 0))
		dst = append(dst, `+00:00"`...)
	}
	return append(dst, "}\n\n"...)
}

// appendSwarmsError opens the error event and writes its first member.
func appendSwarmsError(dst []byte, e *Error) []byte {
	dst = append(dst, "event: error\ndata: {\"error\": "...)
	return jsonx.AppendStringS(dst, e.ClientMessage())
}

// AppendAgents implements Face. The agents stand in the place of the vendor's
// models: clients send one of these words back as model_name.
func (swarmsFace) AppendAgents(dst []byte, op Op, agents []AgentInfo) []byte {
	if op == OpHealth {
		return append(dst, `{"status":"ok"}`...)
	}
	dst = append(dst, `{"success":true,"count":`...)
	dst = strconv.AppendInt(dst, int64(len(agents)), 10)
	dst = append(dst, `,"models":[`...)
	for i := range agents {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsonx.AppendStringS(dst, agents[i].Name)
	}
	return append(dst, "]}"...)
}

// appendSwarmsTime appends a time as Python's isoformat writes it, in UTC and
// without a zone: entries have none, top-level timestamps get +00:00 after it.
func appendSwarmsTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000")
}

// appendSwarmsUUID appends the nth message id of an answer: its seed in the
// form of a version 4 UUID, with n in the last four digits.
func appendSwarmsUUID(dst []byte, seed string, n int) []byte {
	var id [32]byte
	for i := range id {
		id[i] = '0'
	}
	copy(id[:], seed)
	id[12], id[16] = '4', 'a'
	for i := 31; i > 27; i-- {
		id[i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
	for i, from := range [...]int{0, 8, 12, 16, 20} {
		to := [...]int{8, 12, 16, 20, 32}[i]
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = append(dst, id[from:to]...)
	}
	return dst
}

// appendSwarmsUsage appends the usage object; gap is what stands after colons
// and commas. A count that nobody told is left out; the costs, which only the
// vendor knows, are none if it did not tell.
func appendSwarmsUsage(dst []byte, s *Setup, u Usage, gap string) []byte {
	dst = append(dst, '{')
	for _, m := range [...]struct {
		key   string
		count int64
	}{{"input_tokens", u.Input}, {"output_tokens", u.Output}, {"total_tokens", u.Sum()}} {
		if m.count < 0 {
			continue
		}
		dst = append(append(append(dst, '"'), m.key...), `":`...)
		dst = strconv.AppendInt(append(dst, gap...), m.count, 10)
		dst = append(append(dst, ','), gap...)
	}
	dst = append(append(dst, `"img_cost":`...), gap...)
	dst = append(append(dst, firstOf(s.costs[0], "0.0")...), ',')
	dst = append(append(append(dst, gap...), `"total_cost":`...), gap...)
	return append(append(dst, firstOf(s.costs[1], "0.0")...), '}')
}

// swarmsIdentity is what an answer repeats of its request: the agent's name and
// description and the temperature, as JSON values.
func swarmsIdentity(s *Setup) (name, description, temperature string) {
	name, description, temperature = swarmsAgentName(s.Request, s.Agent), "null", "null"
	if s.Request == nil {
		return
	}
	for i := range s.Request.Settings {
		switch set := &s.Request.Settings[i]; set.Param {
		case ParamTemperature:
			if set.Path.Base == "agent_config" { // not the configuration's default
				temperature = set.Raw
			}
		case ParamAgentConfig:
			if set.Path.Mid == "description" {
				description = swarmsMemberValue(set.Raw)
			}
		}
	}
	return
}

// swarmsAgentName is the agent's name: the one its client gave it, else the
// configuration's.
func swarmsAgentName(r *Request, a *Agent) string {
	if r != nil && r.Face == &swarmsProtocol && r.Agent != "" && r.AgentPath.Mid == "agent_name" {
		return r.Agent
	}
	if a != nil {
		return a.Name
	}
	return ""
}
