// Node's oidc-provider with its state in Redis. Settings come as one JSON object in PEER_SETTINGS:
// port, redis, clients ([{client_id, client_secret, id_token_signed_response_alg, ...}]).
// A request with login_hint=NAME signs NAME in and grants what was asked for: people are made by asking.

import { generateKeyPairSync } from 'node:crypto';
import Redis from 'ioredis';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(process.env.PEER_SETTINGS);
const redis = new Redis(settings.redis, { keyPrefix: 'peer:' });

// What has to know that it was used, and what falls with its grant.
const spendable = new Set(['AuthorizationCode', 'RefreshToken', 'DeviceCode', 'BackchannelAuthenticationRequest']);
const granted = new Set([...spendable, 'AccessToken']);

class Store {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, seconds) {
    const key = this.key(id);
    const text = JSON.stringify(payload);
    const trip = redis.multi();
    if (spendable.has(this.model)) trip.hset(key, 'payload', text);
    else trip.set(key, text);
    if (seconds) trip.expire(key, seconds);
    if (granted.has(this.model) && payload.grantId) {
      const list = `grant:${payload.grantId}`;
      trip.rpush(list, key);
      trip.expire(list, 86400 * 14);
    }
    if (payload.uid) trip.set(`uid:${payload.uid}`, id, 'EX', seconds || 86400);
    if (payload.userCode) trip.set(`code:${payload.userCode}`, id, 'EX', seconds || 86400);
    await trip.exec();
  }

  async find(id) {
    if (!spendable.has(this.model)) {
      const text = await redis.get(this.key(id));
      return text ? JSON.parse(text) : undefined;
    }
    const { payload, consumed } = await redis.hgetall(this.key(id));
    if (!payload) return undefined;
    return consumed ? { ...JSON.parse(payload), consumed: Number(consumed) } : JSON.parse(payload);
  }

  async findByUid(uid) {
    const id = await redis.get(`uid:${uid}`);
    return id ? this.find(id) : undefined;
  }

  async findByUserCode(code) {
    const id = await redis.get(`code:${code}`);
    return id ? this.find(id) : undefined;
  }

  async consume(id) {
    await redis.hset(this.key(id), 'consumed', Math.floor(Date.now() / 1000));
  }

  async destroy(id) {
    await redis.del(this.key(id));
  }

  async revokeByGrantId(grantId) {
    const list = `grant:${grantId}`;
    const keys = await redis.lrange(list, 0, -1);
    if (keys.length) await redis.del(...keys, list);
  }
}

function jwk(kind, options, alg) {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig' };
}

const provider = new Provider(`http://127.0.0.1:${settings.port}`, {
  adapter: Store,
  clients: settings.clients,
  jwks: { keys: [jwk('rsa', { modulusLength: 2048 }, 'RS256'), jwk('ec', { namedCurve: 'P-256' }, 'ES256')] },
  cookies: { keys: ['a key for the signatures of cookies'] },
  claims: {
    openid: ['sub'],
    profile: ['name', 'family_name', 'given_name', 'gender', 'birthdate', 'locale', 'zoneinfo', 'updated_at'],
    email: ['email', 'email_verified'],
    phone: ['phone_number', 'phone_number_verified'],
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: 600, AuthorizationCode: 60, ClientCredentials: 600, Grant: 1209600, IdToken: 600,
    Interaction: 1800, RefreshToken: 1209600, Session: 43200,
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, name: '张三例', family_name: '张', given_name: '三例', gender: 'female', birthdate: '1990-01-01',
      locale: 'zh-CN', zoneinfo: 'Asia/Shanghai', updated_at: 1760000000,
      email: `${id}@example.test`, email_verified: true,
      phone_number: '+8617412345678', phone_number_verified: true,
    }),
  }),
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { params } = await provider.interactionDetails(ctx.req, ctx.res);
  const grant = new provider.Grant({ accountId: params.login_hint, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return provider.interactionFinished(ctx.req, ctx.res, {
    login: { accountId: params.login_hint },
    consent: { grantId: await grant.save() },
  });
});

provider.listen(settings.port, '127.0.0.1');
