// Answers of Prometheus as Grafana's data frames, with the panel's field configuration laid over them by Grafana's code.
import { FieldType, applyFieldOverrides, cacheFieldDisplayNames, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame } from "@grafana/data";
import { firstValueFrom } from "rxjs";

// What a time series panel fills in where the dashboard says nothing
const SERIES = {
  drawStyle: "line", lineInterpolation: "linear", lineWidth: 1, fillOpacity: 0, gradientMode: "none", pointSize: 5,
  showPoints: "auto", spanNulls: false, axisPlacement: "auto", stacking: { mode: "none", group: "A" },
  scaleDistribution: { type: "linear" }, barAlignment: 0, hideFrom: { legend: false, tooltip: false, viz: false },
};
const STANDARD = ["unit", "min", "max", "decimals", "color", "thresholds", "mappings", "noValue", "displayName"];

const { mergeTransformer, organizeFieldsTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() =>
  [mergeTransformer, organizeFieldsTransformer].map((each) => ({ id: each.id, name: each.id, transformation: async () => each })),
);

// A registry like the one that each of Grafana's panels brings: it takes every property as it is
const registry = (custom) => {
  const property = (id) => ({
    id,
    path: id.replace(/^custom\./, ""),
    isCustom: id.startsWith("custom."),
    process: (value) => value,
    shouldApply: () => true,
  });
  const all = [...STANDARD, ...custom.map((name) => `custom.${name}`)].map(property);
  return { list: () => all, getIfExists: property };
};

// JSON has no infinity: the lowest threshold's value is null
const withInfinity = (config) =>
  JSON.parse(JSON.stringify(config), (key, value) =>
    key === "steps" ? value.map((step) => ({ ...step, value: step.value ?? -Infinity })) : value,
  );

export async function framesOf(panel, answers, theme, step) {
  let frames = answers.flatMap((answer) =>
    answer.format === "table" ? [table(answer)] : answer.series.map((one) => series(answer, one, step)),
  );
  for (const each of panel.transformations ?? []) frames = await firstValueFrom(transformDataFrame([each], frames));
  const fieldConfig = withInfinity(panel.fieldConfig);
  if (panel.type === "timeseries") fieldConfig.defaults.custom = { ...SERIES, ...fieldConfig.defaults.custom };
  const fieldConfigRegistry = registry(Object.keys(fieldConfig.defaults.custom ?? {}));
  const whole = applyFieldOverrides({ data: frames, fieldConfig, fieldConfigRegistry, theme, replaceVariables: (text) => text });
  cacheFieldDisplayNames(whole);
  return whole;
}

function series({ refId, legend }, { metric, values }, step) {
  const name = legend.replace(/{{(\w+)}}/g, (_, label) => metric[label] ?? "");
  return toDataFrame({
    refId,
    name,
    fields: [
      { name: "Time", type: FieldType.time, config: { interval: step * 1000 }, values: values.map(([at]) => at * 1000) },
      {
        name: "Value", type: FieldType.number, config: { displayNameFromDS: name || "Value" }, labels: metric,
        values: values.map(([, value]) => Number(value)),
      },
    ],
  });
}

function table({ refId, series }) {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))];
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return toDataFrame({
    refId,
    fields: [
      column("Time", FieldType.time, series.map(({ values }) => values[0][0] * 1000)),
      ...labels.map((label) => column(label, FieldType.string, series.map(({ metric }) => metric[label]))),
      column(`Value #${refId}`, FieldType.number, series.map(({ values }) => Number(values[0][1]))),
    ],
  });
}
