package proxy

import (
	"io/fs"
	"reflect"
	"slices"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// takesForce says of every setting when a change of it takes force: with the next request
// after a reload, or, where a name is written, with the next start, and then that is what
// the log calls it.
var takesForce = map[string]string{
	"Server.Listen":               "server.listen",
	"Server.SocketMode":           "server.socket_mode",
	"Server.TLS.CertFile":         "server.tls",
	"Server.TLS.KeyFile":          "server.tls",
	"Server.TLS.ClientCAFile":     "server.tls",
	"Server.TrustedProxies":       "",
	"Server.MaxBody":              "",
	"Server.MaxHeader":            "server.max_header",
	"Server.MaxConnections":       "server.max_connections",
	"Server.Timeouts.Header":      "server.timeouts.header",
	"Server.Timeouts.Body":        "",
	"Server.Timeouts.Idle":        "server.timeouts.idle",
	"Server.Timeouts.Write":       "",
	"Server.Timeouts.DrainDelay":  "",
	"Server.Timeouts.Drain":       "",
	"Admin.Listen":                "admin.listen",
	"Admin.PProf":                 "",
	"Log.Level":                   "",
	"Log.Format":                  "log.format",
	"Log.Access":                  "",
	"Agents":                      "",
	"DefaultAgent":                "",
	"Translate.Strict":            "",
	"Auth.Mode":                   "",
	"Auth.AllowUnauthenticated":   "",
	"Auth.Keys":                   "",
	"Auth.KeysFile":               "",
	"Auth.JWT":                    "",
	"Limits.Store":                "limits.store",
	"Limits.OnError":              "limits.on_error",
	"Limits.Replicas":             "limits.replicas",
	"Limits.Default.Concurrent":   "",
	"Limits.Global.Concurrent":    "",
	"Limits.Queue.Length":         "limits.queue",
	"Limits.Queue.Wait":           "limits.queue",
	"Redis.URL":                   "redis",
	"Redis.Timeout":               "redis",
	"State.Store":                 "state",
	"State.Path":                  "state",
	"State.TTL":                   "state",
	"State.MaxBytes":              "state",
	"State.MaxBytesPerKey":        "state",
	"State.MaxConversation":       "state",
	"State.Timeout":               "state",
	"State.EncryptionKeys":        "state",
	"State.Background.Timeout":    "state",
	"State.Background.Concurrent": "state",
	"State.Background.MaxEvents":  "state",

	"Limits.Default.Requests.Events": "",
	"Limits.Default.Requests.Per":    "",
	"Limits.Default.Requests.Burst":  "",
	"Limits.Default.Tokens.Events":   "",
	"Limits.Default.Tokens.Per":      "",
	"Limits.Default.Tokens.Burst":    "",
	"Limits.Global.Requests.Events":  "",
	"Limits.Global.Requests.Per":     "",
	"Limits.Global.Requests.Burst":   "",
	"Limits.Global.Tokens.Events":    "",
	"Limits.Global.Tokens.Per":       "",
	"Limits.Global.Tokens.Burst":     "",
}

// TestEverySettingTakesForce changes one setting after the other. Each is in force after a
// reload, or stays as it was and is named: one that is added must say which.
func TestEverySettingTakesForce(t *testing.T) {
	t.Parallel()
	old := config.Default()
	old.Agents = []config.Agent{config.DefaultAgent()}
	seen := 0
	eachSetting(t, reflect.TypeFor[config.Config](), nil, "", func(path string, index []int) {
		seen++
		name, known := takesForce[path]
		if !known {
			t.Errorf("%s: takes force when?", path)
			return
		}
		next := old
		other(t, path, reflect.ValueOf(&next).Elem().FieldByIndex(index))
		got, restart := pin(&old, &next)
		var want []string
		force := next
		if name != "" {
			want, force = []string{name}, old
		}
		if !slices.Equal(restart, want) {
			t.Errorf("%s: a restart is needed for %q, want %q", path, restart, want)
		}
		if !reflect.DeepEqual(reflect.ValueOf(*got).FieldByIndex(index).Interface(), reflect.ValueOf(force).FieldByIndex(index).Interface()) {
			t.Errorf("%s: the wrong one is in force", path)
		}
	})
	if seen != len(takesForce) {
		t.Errorf("got %d settings, want %d: one of them is no more", seen, len(takesForce))
	}
}

// TestEverySettingOfAnAgentMakesItAnother: an agent that differs in anything is not taken
// for the one that is in force.
func TestEverySettingOfAnAgentMakesItAnother(t *testing.T) {
	t.Parallel()
	old := config.DefaultAgent()
	if same := config.DefaultAgent(); !sameAgent(&old, &same) {
		t.Fatal("two of the same differ")
	}
	eachSetting(t, reflect.TypeFor[config.Agent](), nil, "", func(path string, index []int) {
		next := old
		other(t, path, reflect.ValueOf(&next).Elem().FieldByIndex(index))
		if sameAgent(&old, &next) {
			t.Errorf("%s: a change is not noticed", path)
		}
	})
}

// eachSetting calls each with every field below a struct that is no struct of fields itself.
func eachSetting(t *testing.T, typ reflect.Type, index []int, path string, each func(path string, index []int)) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue
		}
		at, name := append(slices.Clone(index), i), path+f.Name
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[config.Secret]() {
			eachSetting(t, f.Type, at, name+".", each)
			continue
		}
		each(name, at)
	}
}

// other gives a setting another value.
func other(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *config.Secret:
		*x = config.NewSecret("other")
		return
	case *fs.FileMode:
		*x ^= 0o1
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "other")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), v.Len()+1, v.Len()+1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		t.Fatalf("%s: a %v", path, v.Kind())
	}
}
