package serve_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/registry/internal/serve"
)

var errBeside = errors.New("beside")

// What goes with a server ends with it, in an orderly end and in a failure, and has
// its say.
func TestUntil(t *testing.T) {
	failed := errors.New("failed")
	for _, orderly := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if orderly {
				time.AfterFunc(time.Minute, cancel)
			}
			stop := make(chan struct{})
			began := time.Now()
			err := serve.Until(ctx, &http.Server{}, time.Second, func() error {
				if !orderly {
					return failed
				}
				<-stop
				return http.ErrServerClosed
			}, func(last context.Context) error {
				defer close(stop)
				if _, bounded := last.Deadline(); bounded != orderly || last.Err() != nil {
					t.Errorf("beside gets %v", last)
				}
				return errBeside
			})
			if !errors.Is(err, errBeside) || errors.Is(err, failed) == orderly || (time.Since(began) >= time.Minute) != orderly {
				t.Errorf("orderly %v: %v after %v", orderly, err, time.Since(began))
			}
		})
	}
}

// What is being asked is answered; who goes on and on is cut off.
func TestUntilAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 2)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked <- struct{}{}
		if q.URL.Path == "/slow" {
			time.Sleep(50 * time.Millisecond)
			return
		}
		<-q.Context().Done()
	})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Until(ctx, s, time.Second, func() error { return s.Serve(l) }, nil)
	}()
	answers := map[string]chan error{"/slow": make(chan error, 1), "/never": make(chan error, 1)}
	for path, answer := range answers {
		go func() {
			a, err := http.Get("http://" + l.Addr().String() + path)
			if err == nil {
				a.Body.Close()
			}
			answer <- err
		}()
		<-asked
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if err := <-answers["/slow"]; err != nil {
		t.Errorf("what was being asked: %v", err)
	}
	if err := <-answers["/never"]; err == nil {
		t.Error("nobody was cut off")
	}
}
