// An OpenID provider to test against: `node server.mjs PORT KEYS`, KEYS being a file with a private JWK
// set, of which the first signs. A machine gets an access token as a JWT by client_credentials, a person
// an ID token by the authorization code or hybrid flow; the provider's pages for development log anybody in.

import { readFileSync } from 'node:fs';

import { Provider } from 'oidc-provider';

const [port, keys] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  jwks: JSON.parse(readFileSync(keys, 'utf8')),
  clients: [
    {
      client_id: 'machine',
      client_secret: process.env.CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: 'browser',
      client_secret: process.env.CLIENT_SECRET,
      grant_types: ['authorization_code', 'implicit'],
      redirect_uris: ['https://browser.test/back'],
      response_types: ['code', 'code id_token'],
    },
  ],
  cookies: { keys: [process.env.CLIENT_SECRET] },
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'orders:read',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

provider.listen(Number(port), '127.0.0.1');
