// How long the server took to confirm writes: the last one, on average, at worst, and the latest as bars.
import type { Latencies } from "./latency.ts";

const HEIGHT = 26;

export function Latency({ latencies }: { latencies: Latencies }) {
  const { count, last, average, worst, recent } = latencies;
  const ms = (value: number) => (count === 0 ? "–" : value < 10 ? value.toFixed(1) : value.toFixed(0));
  const highest = Math.max(...recent, 1);
  return (
    <dl class="latency" aria-label="Latency">
      {Object.entries({ last, average, worst }).map(([name, value]) => (
        <div key={name}>
          <dt>{name === "last" ? "last write" : name}</dt>
          <dd>
            <b data-latency={name}>{ms(value)}</b> ms
          </dd>
        </div>
      ))}
      <svg width="160" height={HEIGHT} viewBox={`0 0 160 ${HEIGHT}`} aria-hidden="true">
        {recent.map((value, at) => {
          const height = Math.max(2, (value / highest) * HEIGHT);
          return <rect key={at} x={at * 4} y={HEIGHT - height} width="3" height={height} rx="1" />;
        })}
      </svg>
    </dl>
  );
}
