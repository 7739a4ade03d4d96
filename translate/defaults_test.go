package translate

import (
	"slices"
	"strings"
	"testing"
)

// TestDefaultsAreSentOrWarnedOf asks a backend of each protocol with all
// defaults set: each is in what it is sent, or CheckDefault tells the operator
// that it never is. Neither way is it the client's loss.
func TestDefaultsAreSentOrWarnedOf(t *testing.T) {
	t.Parallel()
	a := &Agent{Name: "a", Model: "m", SystemPrompt: "Speak in rhymes.", MaxTokens: 4321, Temperature: "0.123"}
	for _, p := range registry {
		for _, face := range registry {
			in := goldenRequests[face.Name]
			in.Route = &face.Routes[0]
			r, e := face.DecodeRequest(&in)
			if e != nil {
				t.Fatal(e)
			}
			r.Ledger = Ledger{}
			ask := p.Encode
			if p == face {
				ask = func(dst []byte, r *Request, a *Agent, _ bool) ([]byte, *Error) { return p.SpliceRequest(dst, r, a) }
			}
			// What the client says itself counts more.
			for _, s := range []Param{ParamMaxTokens, ParamTemperature} {
				r.Settings = slices.DeleteFunc(r.Settings, func(x Setting) bool { return x.Param == s })
			}
			silent := !r.hasSystem() && !strings.Contains(string(in.Body), `"temperature"`)
			got, e := ask(nil, r, a, false)
			if e != nil {
				t.Fatalf("%s to %s: %v", face.Name, p.Name, e)
			}
			for name, want := range map[string]string{"system_prompt": a.SystemPrompt, "max_tokens": "4321", "temperature": a.Temperature} {
				sent := strings.Contains(string(got), want)
				if warned := CheckDefault(p.Name, name) != nil; silent && sent == warned {
					t.Errorf("%s to %s: %s is sent: %v, is warned of: %v\n%s", face.Name, p.Name, name, sent, warned, got)
				}
			}
			for _, name := range r.Ledger.Names() {
				if strings.HasPrefix(name, "defaults.") {
					t.Errorf("%s to %s: the client lost %s", face.Name, p.Name, name)
				}
			}
		}
	}
	for _, name := range []string{"system_prompt", "max_tokens", "temperature"} {
		if CheckDefault("unheard-of", name) != nil {
			t.Errorf("an unknown protocol has no %s", name)
		}
	}
}
