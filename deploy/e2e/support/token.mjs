// Connection tokens, signed the way any back end would sign them.
import { createHmac } from "node:crypto";

/** The HMAC secret of nodes under test. */
export const SECRET = "a-secret-for-tests-and-nothing-else!";

const encode = (value) => Buffer.from(value).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);

/** An HS256 token. `ttl` is in seconds; other members are claims. */
export function mint({ ttl = 3600, sub = "alice", secret = SECRET, ...claims } = {}) {
  const head = encode(JSON.stringify({ alg: "HS256", typ: "JWT" }));
  const body = encode(JSON.stringify({ sub, exp: now() + ttl, ...claims }));
  const signature = createHmac("sha256", secret).update(`${head}.${body}`).digest("base64url");
  return `${head}.${body}.${signature}`;
}
