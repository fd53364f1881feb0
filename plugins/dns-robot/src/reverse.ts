// Reverse zones and addresses: Robot knows addresses alone.
import { names } from '../vendor/wharf-sdk/index.js';
import type { Network } from './api.js';

/** Bits of an address or of the addresses of a reverse zone, the first first; undefined for any other name. */
function bits(name: string): string | undefined {
  const labels = names.labels(name).reverse();
  const [arpa, kind, ...digits] = labels;
  if (arpa !== 'arpa') return undefined;
  const all = (good: RegExp, radix: number, width: number) =>
    digits.every((d) => good.test(d)) ? digits.map((d) => Number.parseInt(d, radix).toString(2).padStart(width, '0')).join('') : undefined;
  if (kind === 'in-addr' && digits.length <= 4 && digits.every((d) => Number(d) < 256)) return all(/^(0|[1-9]\d{0,2})$/, 10, 8);
  if (kind === 'ip6' && digits.length <= 32) return all(/^[0-9a-f]$/, 16, 4);
  return undefined;
}

/** Whether a zone is one of whole octets or nibbles. Classless ones (RFC 2317) have no address of their own. */
export const isReverseZone = (zone: string): boolean => bits(zone) !== undefined;

/** Whether a zone and a network have an address in common. */
export function overlap(zone: string, network: Network): boolean {
  let name: string;
  try {
    name = names.reverseName(network.ip);
  } catch {
    return false;
  }
  const [kind, other] = [zone, name].map((n) => names.labels(n).at(-2));
  const [ours, theirs] = [bits(zone), bits(name)];
  if (ours === undefined || theirs === undefined || kind !== other) return false;
  const common = Math.min(ours.length, network.mask, theirs.length);
  return ours.slice(0, common) === theirs.slice(0, common);
}

/**
 * What Hetzner puts there by itself. The main address of a server has it again when its PTR is deleted (seen through the note of
 * https://docs.ansible.com/projects/ansible/latest/collections/community/hrobot/reverse_dns_module.html), so it counts as no PTR.
 */
export const isDefault = (ptr: string): boolean => /^static\.[0-9.-]+\.clients\.your-server\.de\.?$/i.test(ptr);
