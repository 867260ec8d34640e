package fakes

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

const userSchema = `{"type":"record","name":"User","fields":[{"name":"id","type":"long"}]}`

func TestRegistryWithItsRealClient(t *testing.T) {
	t.Parallel()
	r, err := StartRegistry(RegistryOptions{Path: "/apis/ccompat/v7", User: "ada", Password: "pw", FirstID: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx := context.Background()
	client, err := sr.NewClient(sr.URLs(r.URL()), sr.BasicAuth("ada", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if id := r.Register(userSchema); id != 5 {
			t.Fatalf("registered under the id %d", id)
		}
	}
	r.Put(77, `"string"`)
	for id, want := range map[int]string{5: userSchema, 77: `"string"`} {
		if got, err := client.SchemaByID(ctx, id); err != nil || got.Schema != want {
			t.Errorf("schema %d: %q, %v", id, got.Schema, err)
		}
	}
	var refused *sr.ResponseError
	_, err = client.SchemaByID(ctx, 6)
	if !errors.As(err, &refused) || refused.ErrorCode != 40403 || refused.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown id: %v", err)
	}
	r.Fail(http.StatusInternalServerError)
	if _, err := client.SchemaByID(ctx, 5); err == nil {
		t.Error("the registry works though it was told to fail")
	}
	r.Fail(0)
	wrong, err := sr.NewClient(sr.URLs(r.URL()), sr.BasicAuth("ada", "no"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.SchemaByID(ctx, 5); !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("wrong password: %v", err)
	}
}

func TestSilentRegistryHangsUntilItWorksAgain(t *testing.T) {
	t.Parallel()
	r, err := StartRegistry(RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	id := r.Register(userSchema)
	r.Fail(Silence)
	client, err := sr.NewClient(sr.URLs(r.URL()))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := client.SchemaByID(context.Background(), id)
		answered <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for r.Requests() == 0 { // the request has to be there before the registry recovers
		select {
		case err := <-answered:
			t.Fatalf("answered while silent: %v", err)
		case <-tick.C:
		}
	}
	r.Fail(0)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}
