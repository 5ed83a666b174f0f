// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// dockerHubKey is what files of credentials call Docker's own registry.
const dockerHubKey = "https://index.docker.io/v1/"

// An Auth finds credentials in the files that Podman and Docker keep them in, in this
// order: the one that is asked for, $REGISTRY_AUTH_FILE, Podman's in
// $XDG_RUNTIME_DIR/containers and in ~/.config/containers, Docker's in $DOCKER_CONFIG
// or ~/.docker. The first that has some for a registry counts. Programs that such a
// file names as keepers of credentials are run.
type Auth struct {
	// Files are the files in their order; those that do not exist are passed over.
	Files []string
	// Must is a file that must exist; empty is none.
	Must string
}

// NewAuth lists the files. env is os.LookupEnv or stands for it; file is the one that
// is asked for, or empty.
func NewAuth(file string, env func(string) (string, bool)) Auth {
	a := Auth{Must: file}
	in := func(variable string, elem ...string) {
		if dir, ok := env(variable); ok && dir != "" {
			a.Files = append(a.Files, filepath.Join(append([]string{dir}, elem...)...))
		}
	}
	if file != "" {
		a.Files = append(a.Files, file)
	}
	in("REGISTRY_AUTH_FILE")
	in("XDG_RUNTIME_DIR", "containers", "auth.json")
	if dir, ok := env("XDG_CONFIG_HOME"); ok && dir != "" {
		in("XDG_CONFIG_HOME", "containers", "auth.json")
	} else {
		in("HOME", ".config", "containers", "auth.json")
	}
	if dir, ok := env("DOCKER_CONFIG"); ok && dir != "" {
		in("DOCKER_CONFIG", "config.json")
	} else {
		in("HOME", ".docker", "config.json")
	}
	return a
}

// Resolve implements authn.Keychain. Without credentials the registry is asked as
// anybody.
func (a Auth) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for _, name := range a.Files {
		c, err := load(name)
		if errors.Is(err, fs.ErrNotExist) && name != a.Must {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		list := keys(target)
		narrow(c, list)
		for _, key := range list {
			ac, err := c.GetAuthConfig(key)
			if err != nil {
				return nil, fmt.Errorf("get credentials for %s as %s says: %w", key, name, err)
			}
			if ac != (types.AuthConfig{}) && (ac != types.AuthConfig{ServerAddress: ac.ServerAddress}) {
				return authn.FromConfig(authn.AuthConfig{
					Username: ac.Username, Password: ac.Password, Auth: ac.Auth,
					IdentityToken: ac.IdentityToken, RegistryToken: ac.RegistryToken,
				}), nil
			}
		}
	}
	return authn.Anonymous, nil
}

func load(name string) (*configfile.ConfigFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := configfile.New(name)
	if err := c.LoadFromReader(f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// narrow makes c what the library can find the right credentials in: without those of
// repositories that are not in list, which it would take for their registry's (Docker's
// keys, https://HOST/v1/, are of registries), and with Podman's of Docker's own registry.
func narrow(c *configfile.ConfigFile, list []string) {
	maps.DeleteFunc(c.AuthConfigs, func(key string, _ types.AuthConfig) bool {
		return strings.Contains(key, "/") && !strings.Contains(key, "://") && !strings.HasSuffix(key, "/") && !slices.Contains(list, key)
	})
	// It looks for Docker's own registry under Docker's key alone, not Podman's.
	if ac, ok := c.AuthConfigs[dockerHub]; ok {
		if _, both := c.AuthConfigs[dockerHubKey]; !both {
			c.AuthConfigs[dockerHubKey] = ac
		}
	}
}

// keys are what the credentials for target may be filed under, the most special one
// first: Podman files them by repository and its parents, too (containers-auth.json(5)).
func keys(target authn.Resource) []string {
	registry := target.RegistryStr()
	var list []string
	whole := target.String()
	if registry == dockerHubHost {
		whole = dockerHub + strings.TrimPrefix(whole, registry)
	}
	for p := whole; strings.Contains(p, "/"); p = p[:strings.LastIndexByte(p, '/')] {
		list = append(list, p)
	}
	if registry == dockerHubHost {
		return append(list, dockerHub, dockerHubKey, registry)
	}
	return append(list, registry)
}
