package translate

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// swarmsBatch is how many requests a batch may hold.
const swarmsBatch = 10

var _ BatchFace = swarmsFace{}

// SplitBatch implements BatchFace: a batch is a bare list of requests.
func (swarmsFace) SplitBatch(body []byte) ([][]byte, *Error) {
	doc := gjson.Parse(viewString(body))
	if !doc.IsArray() {
		return nil, Invalid(At(""), "The body of a batch must be a JSON array of at most %d requests, each with agent_config and task.", swarmsBatch)
	}
	var items [][]byte
	var err *Error
	n := 0
	doc.ForEach(func(_, v gjson.Result) bool {
		if n++; n > swarmsBatch {
			return false
		}
		if !v.IsObject() && err == nil {
			err = Invalid(AtIndex("", n-1), "'[%d]' must be an object with agent_config and task.", n-1)
		}
		items = append(items, viewBytes(v.Raw))
		return true
	})
	switch {
	case n > swarmsBatch: // in the vendor's words
		return nil, Invalid(At(""), "ERROR: BATCH SIZE EXCEEDED - You can only run up to %d batch agents at a time.", swarmsBatch)
	case n == 0:
		return nil, Invalid(At(""), "The batch is empty: it must hold at least one request.")
	}
	return items, err
}

// AppendBatch implements BatchFace. The envelope is the one of the official
// clients; an item that failed says success:false, as the server of 2025 did.
func (swarmsFace) AppendBatch(dst []byte, b *Batch) []byte {
	now := appendSwarmsTime(nil, b.Now)
	dst = append(append(append(dst, `{"batch_id":"agent-batch-`...), b.Seed...), `","total_requests":`...)
	dst = strconv.AppendInt(dst, int64(len(b.Results)), 10)
	dst = append(dst, `,"results":[`...)
	for i := range b.Results {
		if i > 0 {
			dst = append(dst, ',')
		}
		r := &b.Results[i]
		if r.Err == nil {
			dst = append(dst, r.Body...)
			continue
		}
		dst = append(dst, `{"job_id":null,"success":false,"name":`...)
		dst = appendNullable(dst, swarmsAgentName(r.Request, r.Agent))
		dst = append(dst, `,"outputs":null,"usage":null,"error":`...)
		dst = jsonx.AppendStringS(dst, r.Err.ClientMessage())
		dst = append(dst, `,"status_code":`...)
		dst = strconv.AppendInt(dst, int64(r.Err.Status), 10)
		dst = append(append(append(dst, `,"timestamp":"`...), now...), `+00:00"}`...)
	}
	dst = append(dst, `],"execution_time":`...)
	dst = strconv.AppendFloat(dst, b.Took.Seconds(), 'f', 6, 64)
	return append(append(append(dst, `,"timestamp":"`...), now...), `+00:00"}`...)
}
