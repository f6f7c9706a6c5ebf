// What @grafana/ui has not: an arc for a gauge and a lane for each agent. Values, units and colours are Grafana's.
import { formattedValueToString } from "@grafana/data";

export function Gauge({ theme, width, height, field, display }) {
  const radius = Math.min(width / 2, height) - 16;
  const arc = (from, to) => {
    const point = (part) => `${-radius * Math.cos(Math.PI * part)} ${-radius * Math.sin(Math.PI * part)}`;
    return `M ${point(from)} A ${radius} ${radius} 0 0 1 ${point(to)}`;
  };
  const part = Math.min(1, (display.numeric - field.min) / (field.max - field.min)) || 0;
  return (
    <svg width={width} height={height} viewBox={`${-width / 2} ${-height + 8} ${width} ${height}`}>
      <path d={arc(0, 1)} fill="none" stroke={theme.colors.background.secondary} strokeWidth={16} />
      <path d={arc(0, part)} fill="none" stroke={display.color} strokeWidth={16} />
      <text textAnchor="middle" y={-12} fontSize={28} fill={display.color}>{formattedValueToString(display)}</text>
    </svg>
  );
}

export function Timeline({ theme, frames, range, width, height }) {
  const names = 110;
  const legend = 28;
  const from = range.from.valueOf();
  const lane = (height - legend) / frames.length;
  const x = (at) => names + ((at - from) / (range.to.valueOf() - from)) * (width - names);
  const states = new Map();
  const bars = frames.flatMap(({ fields: [time, value] }, row) =>
    spans(time.values, value.values).map(([begun, ended, state]) => {
      const { text, color } = value.display(state);
      states.set(state, { text, color });
      return <rect key={`${row} ${begun}`} x={x(begun)} width={x(ended) - x(begun)} y={row * lane + 3} height={lane - 6} fill={color} />;
    }),
  );
  return (
    <svg width={width} height={height} fontSize={12} fill={theme.colors.text.primary}>
      {bars}
      {frames.map((frame, row) => (
        <text key={frame.name} x={names - 8} y={(row + 0.5) * lane} textAnchor="end" dominantBaseline="central">{frame.name}</text>
      ))}
      {[...states].sort(([a], [b]) => a - b).map(([state, { text, color }], n) => (
        <g key={state} transform={`translate(${n * 100} ${height - 14})`}>
          <rect width={14} height={4} y={-2} rx={2} fill={color} />
          <text x={20} dominantBaseline="central">{text}</text>
        </g>
      ))}
    </svg>
  );
}

// Times in which a value stays the same
function spans(times, values) {
  const found = [];
  times.forEach((at, n) => {
    const last = found.at(-1);
    if (last) last[1] = at;
    if (last?.[2] !== values[n]) found.push([at, at, values[n]]);
  });
  return found;
}
