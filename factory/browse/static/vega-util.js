// The interpreter asks for vega-util; the whole of it is a part of vega, which is loaded before.
export const { ascending, isString, DisallowedObjectProperties } = window.vega;
