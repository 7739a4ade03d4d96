package translate

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Param is a setting of the request that is carried by value: a protocol
// writes it under its own name, or drops it into the ledger.
type Param uint8

// The settings of the neutral model.
const (
	ParamTemperature Param = iota
	ParamTopP
	ParamMaxTokens
	ParamStop
	ParamSeed
	ParamFrequencyPenalty
	ParamPresencePenalty
	ParamLogitBias
	ParamLogprobs // true or false
	ParamTopLogprobs
	ParamN
	ParamUser
	ParamSafetyIdentifier
	ParamPromptCacheKey
	ParamPromptCacheRetention
	ParamPromptCacheOptions
	ParamServiceTier
	ParamMetadata
	ParamParallelToolCalls
	ParamModeration
	ParamVerbosity
	ParamReasoningEffort
	ParamReasoningSummary
	ParamReasoningOther // context, mode: raw object members, {"context":…}
	ParamIncludeObfuscation
	ParamIncludeEncrypted // reasoning.encrypted_content was asked for: true
	ParamModalities
	ParamAudio
	ParamPrediction
	ParamWebSearch // Chat's web_search_options
	ParamMaxToolCalls
	ParamTruncation
	ParamContextManagement
	ParamPrompt
	ParamInclude // one include value that has no neutral meaning; raw string
	ParamMaxLoops
	ParamVersion        // Cognipeer
	ParamRuntimeContext // Cognipeer
	ParamToolsEnabled   // Swarms: names of the vendor's own tools
	ParamAgentConfig    // Swarms: one member of agent_config that has no neutral meaning; {"key":…}

	numParams
)

// many tells the params of which each setting counts; of the others the last
// one does.
func (p Param) many() bool {
	return p == ParamInclude || p == ParamReasoningOther || p == ParamAgentConfig
}

// Setting is one param as the client wrote it.
type Setting struct {
	Param Param
	Raw   string // JSON value
	Path  Path
}

// Take is the raw JSON of the ith setting, for an encoder that carries it in
// whatever form, or that sees to the ledger itself. What no encoder has taken,
// Encode puts into the ledger.
func (r *Request) Take(i int) string {
	for len(r.taken) < len(r.Settings) {
		r.taken = append(r.taken, false)
	}
	r.taken[i] = true
	return r.Settings[i].Raw
}

// lost reports whether the ith setting has not reached the backend.
func (r *Request) lost(i int) bool {
	return (i >= len(r.taken) || !r.taken[i]) && !r.idle(&r.Settings[i]) && !(r.Truncated && r.Settings[i].Param == ParamTruncation)
}

// take is the raw JSON of a setting that is carried.
func (r *Request) take(p Param) (raw string, ok bool) {
	for i := range r.Settings {
		if r.Settings[i].Param == p {
			raw, ok = r.Take(i), true
		}
	}
	return raw, ok
}

// idle reports whether a setting asks for what happens without it too, so that
// leaving it out loses nothing.
func (r *Request) idle(s *Setting) bool {
	switch s.Param {
	case ParamN:
		return number(s.Raw) == 1
	case ParamTopLogprobs, ParamFrequencyPenalty, ParamPresencePenalty:
		return number(s.Raw) == 0
	case ParamLogprobs, ParamIncludeObfuscation:
		return s.Raw == "false"
	case ParamTruncation:
		return s.Raw == `"disabled"`
	case ParamServiceTier:
		return s.Raw == `"auto"`
	case ParamModalities:
		return gjson.Get(s.Raw, "#").Int() == 1 && gjson.Get(s.Raw, "0").Str == "text"
	case ParamStop:
		return gjson.Parse(s.Raw).IsArray() && gjson.Get(s.Raw, "#").Int() == 0
	case ParamLogitBias, ParamMetadata:
		return strings.TrimLeft(s.Raw[1:], " \t\r\n") == "}"
	case ParamParallelToolCalls:
		return len(r.Tools) == 0 || s.Raw == "true"
	}
	return false
}

// number is a JSON number's value, NaN if it is none or too large.
func number(raw string) float64 {
	n, err := strconv.ParseFloat(raw, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// settle leaves out the settings that a later one of the same param replaces.
func (r *Request) settle() {
	kept := r.Settings[:0]
	for i := range r.Settings {
		if !r.repeated(i) {
			kept = append(kept, r.Settings[i])
		}
	}
	r.Settings = kept
}

// repeated reports whether a later setting counts in place of the ith.
func (r *Request) repeated(i int) bool {
	if r.Settings[i].Param.many() {
		return false
	}
	for j := i + 1; j < len(r.Settings); j++ {
		if r.Settings[j].Param == r.Settings[i].Param {
			return true
		}
	}
	return false
}

// Setting returns the raw JSON of a param; the last one if several were given.
func (r *Request) Setting(p Param) (raw string, ok bool) {
	for _, s := range slices.Backward(r.Settings) {
		if s.Param == p {
			return s.Raw, true
		}
	}
	return "", false
}

// MaxTokens is how many tokens of answer the client asks for at most, 0 if it does
// not say. It may be asked before Complete.
func (r *Request) MaxTokens() int64 {
	raw, ok := r.Setting(ParamMaxTokens)
	if !ok && r.later != nil {
		for _, at := range r.Face.MaxTokensAt {
			if v := gjson.Get(viewString(r.Body), at); v.Type == gjson.Number {
				raw = v.Raw
			}
		}
	}
	if raw == "" { // an error would be memory
		return 0
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Set adds a setting.
func (r *Request) Set(p Param, raw string, at Path) {
	r.Settings = append(r.Settings, Setting{Param: p, Raw: raw, Path: at})
}
