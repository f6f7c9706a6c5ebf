// The dashboard's panels, drawn by @grafana/ui from recorded answers. Head, grid, gauge, state timeline and the marks of
// annotations are our own: that package has none.
import "@fontsource/inter/400.css";
import "@fontsource/inter/500.css";
import { VizOrientation, createTheme, dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues } from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import { createRoot } from "react-dom/client";
import { framesOf } from "./frames.js";
import { Gauge, Timeline } from "./ours.jsx";

const WIDTH = 1600;
const GAP = 8;
const CELL = 30;
const HEAD = 44;
const theme = createTheme({ colors: { mode: "dark" } });

const [shown, data] = await Promise.all(["dashboard.json", "data.json"].map(async (name) => (await fetch(name)).json()));
const range = { from: dateTime(data.from * 1000), to: dateTime(data.to * 1000) };
range.raw = range;
const colour = (name) => theme.visualization.getColorByName(name);

const values = (panel, frames) =>
  getFieldDisplayValues({
    data: frames, theme, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, timeZone: "utc",
    replaceVariables: (text) => text, sparkline: panel.options.graphMode !== "none",
  });

const DRAWN = {
  stat: ({ panel, frames, width, height }) => {
    const all = values(panel, frames);
    const { colorMode, graphMode, textMode, justifyMode } = panel.options;
    const options = { theme, height, colorMode, graphMode, textMode, justifyMode };
    return (
      <div style={{ display: "flex" }}>
        {all.map(({ display, sparkline }, n) => (
          <BigValue key={n} {...options} {...{ sparkline }} width={width / all.length} value={display} />
        ))}
      </div>
    );
  },
  gauge: ({ panel, frames, width, height }) => <Gauge {...{ theme, width, height }} {...values(panel, frames)[0]} />,
  bargauge: ({ panel, frames, width, height }) => {
    const all = values(panel, frames);
    const each = Math.min(300, (height - GAP * (all.length - 1)) / all.length);
    return all.map(({ display, field }, n) => (
      <div key={n} style={{ marginBottom: GAP }}>
        <BarGauge
          {...{ theme, width, field }} height={each} value={display} display={frames[n]?.fields[1].display} showUnfilled
          orientation={VizOrientation.Horizontal} displayMode={panel.options.displayMode} valueDisplayMode="color"
          namePlacement={panel.options.namePlacement} text={panel.options.text}
          alignmentFactors={getDisplayValueAlignmentFactors(all)}
        />
      </div>
    ));
  },
  table: ({ panel, frames, width, height }) => (
    <TableNG {...{ width, height }} data={frames[0]} sortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} />
  ),
  "state-timeline": ({ frames, width, height }) => <Timeline {...{ theme, frames, range, width, height }} />,
  timeseries: ({ panel, frames, width, height }) => (
    <TimeSeries {...{ theme, frames, width, height }} timeRange={range} timeZone="utc" legend={panel.options.legend}>
      {(config) => <Marks config={config} panel={panel} />}
    </TimeSeries>
  ),
};

function Marks({ config, panel }) {
  if (!data.marks.some(({ panels }) => panels.includes(panel.id))) return null;
  config.addHook("draw", (u) => {
    u.ctx.save();
    u.ctx.setLineDash([4, 4]);
    for (const { colour: name, times } of data.marks) {
      u.ctx.strokeStyle = u.ctx.fillStyle = colour(name);
      for (const at of times) {
        const x = Math.round(u.valToPos(at, "x", true));
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
        u.ctx.beginPath();
        u.ctx.moveTo(x - 5, u.bbox.top + u.bbox.height + 6);
        u.ctx.lineTo(x + 5, u.bbox.top + u.bbox.height + 6);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.fill();
      }
    }
    u.ctx.restore();
  });
  return null;
}

function Panel({ panel, frames }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (WIDTH - GAP) / 24;
  const place = { position: "absolute", left: GAP + x * column, top: HEAD + y * (CELL + GAP) };
  const size = { width: w * column - GAP, height: h * (CELL + GAP) - GAP };
  if (panel.type === "row") return <h2 style={{ ...place, ...theme.typography.h5, margin: 0, lineHeight: `${CELL}px` }}>⌄ {panel.title}</h2>;
  const Drawn = frames.length || panel.type !== "timeseries" ? DRAWN[panel.type] : () => <p>No data</p>;
  return (
    <div style={place}>
      <PanelChrome {...size} title={panel.title}>
        {(width, height) => <Drawn {...{ panel, frames, width, height }} />}
      </PanelChrome>
    </div>
  );
}

function Page({ panels, height }) {
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: "relative", width: WIDTH, height, background: theme.colors.background.canvas }}>
        <h1 style={{ ...theme.typography.h4, margin: 0, padding: `0 ${GAP}px`, lineHeight: `${HEAD}px` }}>
          {shown.title}
          <small style={{ float: "right" }}>{range.from.utc().format("HH:mm:ss")} to {range.to.utc().format("HH:mm:ss")}</small>
        </h1>
        {panels.map((each) => <Panel key={each.panel.id} {...each} />)}
      </div>
    </ThemeContext.Provider>
  );
}

const panels = await Promise.all(
  shown.panels.map(async (panel, n) => ({ panel, frames: panel.type === "row" ? [] : await framesOf(panel, data.panels[n], theme, data.step) })),
);
const height = HEAD + Math.max(...shown.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * (CELL + GAP);
createRoot(document.getElementById("root")).render(<Page {...{ panels, height }} />);
